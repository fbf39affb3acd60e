//! That rows, keys and comments are the same keys.
#![allow(clippy::unwrap_used)]

use super::super::tree;
use super::*;
use std::collections::HashSet;

/// Every block that is reached from this kind.
fn blocks(kind: &'static Kind, found: &mut Vec<&'static Block>) {
    match kind {
        Kind::Block(block) if !found.iter().any(|known| known.name == block.name) => {
            found.push(block);
            block.rows.iter().for_each(|row| blocks(&row.kind, found));
        }
        Kind::List(of, ..) | Kind::Map(of) => blocks(of, found),
        Kind::Either(kinds) => kinds.iter().for_each(|kind| blocks(kind, found)),
        _ => {}
    }
}

fn all() -> Vec<&'static Block> {
    let mut found = Vec::new();
    blocks(&WHOLE, &mut found);
    found
}

#[test]
fn rows_are_the_decoders_keys() {
    for block in all() {
        let rows: HashSet<&str> = block.rows.iter().map(|row| row.key).collect();
        let keys: HashSet<&str> = block.keys.known.iter().copied().collect();
        assert_eq!(rows, keys, "{}: src/config/schema has a row for each key that is decoded", block.name);
        assert_eq!(block.rows.len(), rows.len(), "{}: none twice", block.name);
        let (Rule::One(keys) | Rule::Some(keys)) = block.rule else { continue };
        assert!(keys.iter().all(|key| rows.contains(key)), "{}", block.name);
    }
}

#[test]
fn every_key_is_explained_in_gateway_yaml() {
    let comments = Comments::read();
    let rows = all().into_iter().flat_map(|block| block.rows.iter().map(move |row| (block.name, row.key)));
    let missing: Vec<_> = rows.filter(|(block, key)| comments.of(block, key).is_none()).collect();
    assert!(missing.is_empty(), "these keys have no comment on their line in config/gateway.yaml: {missing:?}");
    let of = |block, key| comments.of(block, key).unwrap();
    assert_eq!(of("pool", "idle"), "idle connections kept per endpoint, per process");
    assert_eq!(of("certificate", "ocsp"), "an OCSP answer to be stapled, DER; default: none");
    assert!(
        of("listener_tls", "ticket_secrets")
            .ends_with("every machine that has them; default: each process makes its own, every 6 hours")
    );
    assert!(of("redis", "url").starts_with("redis://[[user]:password@]host"));
}

#[test]
fn the_schema_names_plugins_and_every_definition_is_used() {
    let text = json_schema(&[("acme-tenant", "lets known tenants in")]);
    let schema: Value = serde_json::from_str(&text).unwrap();
    let filter = &schema["$defs"]["filter"]["properties"];
    assert_eq!(filter["acme-tenant"]["description"], "lets known tenants in");
    for name in schema["$defs"].as_object().unwrap().keys() {
        assert!(text.contains(&format!("\"#/$defs/{name}\"")), "{name}");
    }
    assert!(!json_schema(&[]).contains("null,"), "no definition was left open");
}

/// Single values of a document that differ from the default of their key.
fn other_than_default(node: &tree::Node, kind: &'static Kind, found: &mut Vec<String>) {
    match (&node.kind, kind) {
        (_, Kind::Either(kinds)) => kinds.iter().for_each(|kind| other_than_default(node, kind, found)),
        (tree::Kind::Sequence(items), Kind::List(of, ..)) => {
            items.iter().for_each(|item| other_than_default(item, of, found));
        }
        (tree::Kind::Mapping(entries), Kind::Map(of)) => {
            entries.iter().for_each(|(_, node)| other_than_default(node, of, found));
        }
        (tree::Kind::Mapping(entries), Kind::Block(block)) => {
            for (key, node) in entries {
                let Some(row) = block.rows.iter().find(|row| row.key == key.text) else { continue };
                match (&node.kind, row.default.text()) {
                    (tree::Kind::Scalar(given), Some(default)) if given.text != default => {
                        found.push(format!("{}: {} of {}, not {default}", key.text, given.text, block.name));
                    }
                    _ => other_than_default(node, &row.kind, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn gateway_yaml_shows_the_defaults_of_the_rows() {
    let report = super::super::Report::new("gateway.yaml");
    let root = tree::read(include_str!("../../../config/gateway.yaml"), &|_| None, &report).unwrap();
    let mut found = Vec::new();
    other_than_default(&root, &WHOLE, &mut found);
    assert!(found.is_empty(), "{found:#?}");
}
