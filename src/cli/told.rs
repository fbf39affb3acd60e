//! An explanation as people read it.

use std::fmt::Write;

use crate::proxy::explain::{Answer, Explanation, Other, Sent};
use crate::value::Duration;

/// Routes that are not taken are listed up to this number.
const OTHERS_MAX: usize = 20;

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
        told.unknown.iter().try_for_each(|what| writeln!(out, "          ? {what} (--client-cert FILE)"))?;
    }
    if let Some(why) = &told.handshake_refused {
        return writeln!(out, "handshake refused: {why}");
    }
    if let Some(route) = &told.route {
        let pattern = if route.name == route.pattern { String::new() } else { format!(" ({})", route.pattern) };
        writeln!(out, "route     {}{pattern}", route.name)?;
        for (name, value) in &route.params {
            let value = if value.is_empty() { "(empty)" } else { value };
            writeln!(out, "          {name} = {value}")?;
        }
    } else if told.request.is_some() {
        writeln!(out, "route     none")?;
    }
    others(told, out)?;
    for (i, step) in told.filters.iter().enumerate() {
        let title = if i == 0 { "filters" } else { "" };
        writeln!(out, "{title:<9} {}. {} ({}): {}", i + 1, step.name, step.kind, step.does)?;
        step.unknown.iter().try_for_each(|what| writeln!(out, "             ? {what}"))?;
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
        writeln!(out, "{title:<9} {} {}", deadline.key, Duration::from_millis(deadline.ms.into()))?;
    }
    let has_unknown = |told: &Explanation| {
        let of_filters = told.filters.iter().any(|step| !step.unknown.is_empty());
        !told.unknown.is_empty() || of_filters || told.sent.iter().any(|sent| !sent.unknown.is_empty())
    };
    if has_unknown(told) {
        writeln!(out, "?         is not known here: nobody is asked, and nothing is opened")?;
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
        match other.differs {
            "path" if other.why.starts_with("it is for ") => {
                writeln!(out, "{title:<9} {}{called}: another path", other.name)?
            }
            differs => writeln!(out, "{title:<9} {}{called}: {differs}: {}", other.name, other.why)?,
        }
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
    let (title, part) = match &sent.part {
        Some(part) => ("part", format!("{part}: ")),
        None => ("upstream", String::new()),
    };
    let endpoints: Vec<String> = sent
        .endpoints
        .iter()
        .map(|endpoint| match endpoint.weight {
            1 => endpoint.address.clone(),
            weight => format!("{} (weight {weight})", endpoint.address),
        })
        .collect();
    let places = match endpoints.as_slice() {
        [] => "none of its endpoints, which are all being drained".to_owned(),
        [one] => format!("at {one}"),
        several => format!("at one of {}, by {}", several.join(", "), sent.balance),
    };
    writeln!(out, "{title:<9} {part}{}{tls}, {places}", sent.upstream)?;
    sent.notes.iter().try_for_each(|note| writeln!(out, "          {note}"))?;
    message(&sent.request, out)?;
    sent.unknown.iter().try_for_each(|field| writeln!(out, "          ? {}: {}", field.name, field.from))
}

fn message(text: &str, out: &mut String) -> std::fmt::Result {
    text.lines().filter(|line| !line.is_empty()).try_for_each(|line| writeln!(out, "          | {line}"))
}
