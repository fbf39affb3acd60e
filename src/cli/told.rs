//! An explanation as people read it.

use std::fmt::Write;

use crate::config::Config;
use crate::config::filters::Filter;
use crate::proxy::explain::{Answer, Explanation, Other, Sent};

/// Routes that are not taken are listed up to this number.
const OTHERS_MAX: usize = 20;
/// Fields that hold credentials wherever they are.
const CREDENTIALS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];
const HIDDEN: &str = "***";

/// Puts `***` in place of the values of fields that hold credentials: those of HTTP, and those that the config's filters
/// read keys and tokens from, also where these are in the query.
pub(super) fn hide_credentials(told: &mut Explanation, config: &Config) {
    let mut fields: Vec<String> = CREDENTIALS.iter().map(|name| (*name).to_owned()).collect();
    let mut pairs: Vec<String> = Vec::new();
    for named in &config.filters {
        match &named.filter {
            Filter::ApiKey(key) => {
                fields.extend(key.header.clone());
                pairs.extend(key.query.clone());
            }
            Filter::Jwt(jwt) => {
                use crate::config::filters::jwt::Place;
                for place in &jwt.from {
                    match place {
                        Place::Header(name) => fields.push(name.clone()),
                        Place::Query(name) => pairs.push(name.clone()),
                        Place::Cookie(_) => {}
                    }
                }
            }
            _ => {}
        }
    }
    for sent in &mut told.sent {
        sent.request = hidden(&sent.request, &fields, &pairs);
    }
    if let Some(answer) = &mut told.answer {
        answer.head = hidden(&answer.head, &fields, &pairs);
    }
    if let Some(query) = told.request.as_mut().and_then(|request| request.query.as_mut()) {
        *query = hidden_pairs(query, &pairs);
    }
    for step in &mut told.filters {
        step.does = hidden_pairs(&step.does, &pairs);
    }
}

fn hidden(message: &str, fields: &[String], pairs: &[String]) -> String {
    let (head, body) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
    let line = |line: &str| match line.split_once(':') {
        Some((name, _)) if fields.iter().any(|field| field.eq_ignore_ascii_case(name)) => format!("{name}: {HIDDEN}"),
        _ => hidden_pairs(line, pairs),
    };
    let lines: Vec<String> = head.split("\r\n").map(line).collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

/// The same for pairs of a query, wherever one is written.
fn hidden_pairs(text: &str, pairs: &[String]) -> String {
    let mut text = text.to_owned();
    for pair in pairs {
        let name = format!("{pair}=");
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| rest.find(&name)).map(|at| from + at) {
            let start = at + name.len();
            let is_pair = at == 0 || text.get(..at).is_some_and(|before| before.ends_with(['?', '&']));
            from = start;
            if is_pair {
                let len = text.get(start..).map_or(0, |rest| rest.find(['&', ' ', '\r']).unwrap_or(rest.len()));
                text.replace_range(start..start + len, HIDDEN);
                from = start + HIDDEN.len();
            }
        }
    }
    text
}

/// The whole of it.
pub(super) fn text(told: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write(told, &mut out);
    out
}

fn write(told: &Explanation, out: &mut String) -> std::fmt::Result {
    if let Some(request) = &told.request {
        let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        writeln!(out, "request   {} {}{query}", request.method, request.path)?;
        writeln!(out, "          host {}, from {}, listener {}", request.host, request.client, told.listener)?;
    }
    if let Some(route) = &told.route {
        writeln!(out, "route     {} ({})", route.name, route.pattern)?;
        for (name, value) in &route.params {
            writeln!(out, "          {name} = {value}")?;
        }
    } else if told.request.is_some() {
        writeln!(out, "route     none")?;
    }
    others(told, out)?;
    for (i, step) in told.filters.iter().enumerate() {
        let title = if i == 0 { "filters" } else { "" };
        writeln!(out, "{title:<9} {}. {} ({}): {}", i + 1, step.name, step.kind, step.does)?;
    }
    let refused = told.filters.iter().find(|step| step.answers.is_some());
    if let Some(step) = refused {
        let status = step.answers.unwrap_or_default();
        writeln!(
            out,
            "refused   by {} with {status}; what follows is what would be, did it let the request pass",
            step.name
        )?;
    }
    if let Some(answer) = &told.answer {
        self::answer(answer, out)?;
    }
    told.sent.iter().try_for_each(|sent| self::sent(sent, out))?;
    if let Some(limit) = told.body_limit {
        writeln!(out, "body      at most {limit} bytes")?;
    }
    for (i, deadline) in told.deadlines.iter().enumerate() {
        let title = if i == 0 { "deadlines" } else { "" };
        writeln!(out, "{title:<9} {} {} ms", deadline.key, deadline.ms)?;
    }
    Ok(())
}

/// Routes that could have been taken, and where none is, also those that are the least different.
fn others(told: &Explanation, out: &mut String) -> std::fmt::Result {
    let is_near = |other: &&Other| other.differs != "host" && other.differs != "path";
    let mut shown: Vec<&Other> = told.others.iter().filter(is_near).collect();
    if told.route.is_none() {
        let path = told.request.as_ref().map(|request| request.path.as_str()).unwrap_or_default();
        let mut far: Vec<&Other> = told.others.iter().filter(|other| !is_near(other)).collect();
        far.sort_by_key(|other| std::cmp::Reverse(common_start(&other.matches, path)));
        shown.extend(far);
    }
    let more = shown.len().saturating_sub(OTHERS_MAX);
    for (i, other) in shown.iter().take(OTHERS_MAX).enumerate() {
        let title = if i == 0 { "not taken" } else { "" };
        let called = if other.name == other.matches { String::new() } else { format!(" ({})", other.matches) };
        writeln!(out, "{title:<9} {}{called}: {}: {}", other.name, other.differs, other.why)?;
    }
    if more > 0 {
        writeln!(out, "          and {more} more; --json tells all")?;
    }
    Ok(())
}

/// How many bytes a pattern and a path have in common at their start.
fn common_start(matches: &str, path: &str) -> usize {
    let pattern = matches.find('/').and_then(|at| matches.get(at..)).unwrap_or_default();
    pattern.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count()
}

fn answer(answer: &Answer, out: &mut String) -> std::fmt::Result {
    let why = answer.why.map(|why| format!(": {why}")).unwrap_or_default();
    writeln!(out, "answer    {}{why}", answer.status)?;
    message(&answer.head, out)?;
    message(&answer.body, out)
}

fn sent(sent: &Sent, out: &mut String) -> std::fmt::Result {
    let tls = if sent.tls { " over TLS" } else { "" };
    let part = sent.part.as_ref().map(|part| format!("{part}: ")).unwrap_or_default();
    let endpoints: Vec<String> = sent
        .endpoints
        .iter()
        .map(|endpoint| match endpoint.weight {
            1 => endpoint.address.clone(),
            weight => format!("{} (weight {weight})", endpoint.address),
        })
        .collect();
    writeln!(out, "upstream  {part}{}{tls}, {} of {}", sent.upstream, sent.balance, endpoints.join(", "))?;
    sent.notes.iter().try_for_each(|note| writeln!(out, "          {note}"))?;
    message(&sent.request, out)
}

fn message(text: &str, out: &mut String) -> std::fmt::Result {
    text.lines().filter(|line| !line.is_empty()).try_for_each(|line| writeln!(out, "          | {line}"))
}
