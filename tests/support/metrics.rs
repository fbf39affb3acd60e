//! A strict reader of the Prometheus / OpenMetrics text format, written for the tests.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

#[derive(Debug, Clone)]
pub struct Metrics {
    pub samples: Vec<Sample>,
    pub types: BTreeMap<String, String>,
}

const SUFFIXES: [&str; 7] = ["", "_total", "_bucket", "_sum", "_count", "_info", "_created"];

impl Metrics {
    /// Reads the whole text; anything out of the format is an error that names the line.
    pub fn parse(text: &str) -> Result<Metrics, String> {
        let mut metrics = Metrics { samples: Vec::new(), types: BTreeMap::new() };
        let (mut helped, mut seen, mut finished_families) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut current: Option<String> = None;
        if !text.ends_with('\n') {
            return Err("the last line has no line feed".into());
        }
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let fail = |why: &str| Err(format!("line {}: {why}: {line}", i + 1));
            if *line == "# EOF" {
                if i + 1 != lines.len() {
                    return fail("text after # EOF");
                }
            } else if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (Some(kind), Some(name)) = (words.next(), words.next()) else { return fail("comment") };
                match kind {
                    "HELP" if !helped.insert(name.to_string()) => return fail("second HELP"),
                    "HELP" | "UNIT" => {}
                    "TYPE" => {
                        let kind = words.next().unwrap_or_default();
                        if !["counter", "gauge", "histogram", "summary", "info", "unknown", "untyped"].contains(&kind) {
                            return fail("unknown type");
                        }
                        if metrics.types.insert(name.to_string(), kind.to_string()).is_some() {
                            return fail("second TYPE");
                        }
                    }
                    _ => return fail("unknown comment"),
                }
                if current.as_deref() != Some(name) {
                    if let Some(old) = current.replace(name.to_string()) {
                        finished_families.insert(old);
                    }
                    if finished_families.contains(name) {
                        return fail("family is not in one piece");
                    }
                }
            } else {
                let sample = match parse_sample(line) {
                    Ok(sample) => sample,
                    Err(why) => return fail(&why),
                };
                let family = current.as_deref().unwrap_or_default();
                if !SUFFIXES.iter().any(|suffix| sample.name == format!("{family}{suffix}")) {
                    return fail("sample outside its family");
                }
                if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                    return fail("series given twice");
                }
                let counts = metrics.types.get(family).is_some_and(|t| t == "counter" || t == "histogram");
                if counts && (sample.value < 0.0 || sample.value.is_nan()) {
                    return fail("a count below zero");
                }
                metrics.samples.push(sample);
            }
        }
        metrics.check_histograms()?;
        Ok(metrics)
    }

    /// The buckets of a histogram never fall, and the last one is the count.
    fn check_histograms(&self) -> Result<(), String> {
        let mut last: BTreeMap<(String, Labels), (f64, f64)> = BTreeMap::new();
        for s in self.samples.iter().filter(|s| s.name.ends_with("_bucket")) {
            let mut labels = s.labels.clone();
            let le = labels.remove("le").ok_or("a bucket without le")?;
            let le = if le == "+Inf" { f64::INFINITY } else { le.parse().map_err(|_| format!("le {le}"))? };
            let key = (s.name.trim_end_matches("_bucket").to_string(), labels);
            if let Some((old_le, old)) = last.insert(key, (le, s.value))
                && (old_le >= le || old > s.value)
            {
                return Err(format!("buckets fall: {s:?}"));
            }
        }
        for ((name, labels), (le, value)) in last {
            let count = self.samples.iter().find(|s| s.name == format!("{name}_count") && s.labels == labels);
            if le != f64::INFINITY || count.is_none_or(|c| c.value != value) {
                return Err(format!("{name}{labels:?}: the +Inf bucket is not the count"));
            }
        }
        Ok(())
    }

    /// The sum of all series of a name whose labels include the given ones.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).iter().map(|s| s.value).sum()
    }

    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let fits =
            |s: &&Sample| s.name == name && labels.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|have| have == v));
        self.samples.iter().filter(fits).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|s| s.name == name)
    }
}

fn is_name(name: &str) -> bool {
    let ok = |(i, b): (usize, u8)| b.is_ascii_alphabetic() || b == b'_' || b == b':' || (i > 0 && b.is_ascii_digit());
    !name.is_empty() && name.bytes().enumerate().all(ok)
}

fn parse_sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err("metric name".into());
    }
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").ok_or("label")?;
            if !is_name(label) || label.contains(':') {
                return Err(format!("label name {label}"));
            }
            let (value, after) = quoted(after)?;
            if labels.insert(label.to_string(), value).is_some() {
                return Err(format!("label {label} twice"));
            }
            rest = after;
            if let Some(more) = rest.strip_prefix(',') {
                rest = more;
            } else if !rest.starts_with('}') {
                return Err("after a label".into());
            }
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().map_err(|_| format!("value {number}"))?,
    };
    Ok(Sample { name: name.into(), labels, value })
}

/// A quoted label value without its quotes, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &text[i + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some(c @ ('"' | '\\')) => out.push(c),
                other => return Err(format!("escape {other:?}")),
            },
            c => out.push(c),
        }
    }
    Err("quote not closed".into())
}

#[test]
fn the_reader_of_metrics_itself_can_go_red() {
    let good = "# HELP a_x Some.\n# TYPE a_x counter\na_x_total{k=\"v\\\"w\"} 3\n# EOF\n";
    let metrics = Metrics::parse(good).unwrap();
    assert_eq!(metrics.sum("a_x_total", &[("k", "v\"w")]), 3.0);
    for bad in [
        "a 1",
        "# TYPE a counter\na_total 1\na_total 1\n",
        "# TYPE a counter\na_total -1\n",
        "# TYPE a counter\nb_total 1\n",
        "# TYPE a gauge\na{k=v} 1\n",
        "# TYPE a gauge\na{k=\"v} 1\n",
        "# TYPE a gauge\na x\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
        "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\na 1\n",
    ] {
        assert!(Metrics::parse(bad).is_err(), "accepted: {bad}");
    }
}
