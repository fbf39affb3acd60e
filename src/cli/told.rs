//! An explanation as people read it.

use std::fmt::Write;

use crate::proxy::explain::{Answer, Explanation, Other, Sent};

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
    }
    if let Some(why) = &told.handshake_refused {
        return writeln!(out, "handshake refused: {why}");
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
