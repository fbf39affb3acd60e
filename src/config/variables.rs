//! `${NAME}`, `${NAME:-default}` and `$$` inside a scalar. They are replaced after the document's structure is known:
//! a variable can never add a key.

use crate::value::Invalid;

/// Gives the value of an environment variable.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The text with every variable replaced, at most `bytes_max` long; `None` if there is nothing to replace.
///
/// # Errors
/// A variable that is not set and has no default, a `$` that is neither a variable nor `$$`, a text that is too long.
pub(super) fn replace(text: &str, env: Environment<'_>, bytes_max: usize) -> Result<Option<String>, Invalid> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (variable, after) = after.split_once('}').ok_or_else(malformed)?;
            out.push_str(&value_of(variable, env)?);
            rest = after;
        } else {
            return Err(lone(after));
        }
        if out.len() > bytes_max {
            return Err(Invalid::new("becomes too long once its variables are replaced", ""));
        }
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn value_of(variable: &str, env: Environment<'_>) -> Result<String, Invalid> {
    let (name, default) = match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (variable, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(malformed());
    }
    if default.is_some_and(|default| default.contains(['{', '$'])) {
        return Err(Invalid::new(
            format!("has a default for `{name}` with `{{` or `$` in it"),
            "set the variable instead",
        ));
    }
    // As in a shell, a default also stands in for a variable that is set to nothing.
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let remedy = format!("set it, or give a default: ${{{name}:-value}}");
            Err(Invalid::new(format!("names the variable `{name}`, which is not set"), remedy))
        }
    }
}

/// `[${NAME}]` and `{ key: ${NAME} }` are cut off behind the `$`: in YAML a brace there begins a mapping.
fn lone(after: &str) -> Invalid {
    let remedy = match after {
        "" => "inside of `[ ]` or `{ }` a variable needs quotes: \"${NAME}\"; `$$` is a dollar sign",
        _ => "write `$$` for a dollar sign, `${NAME}` for a variable",
    };
    Invalid::new("has a lone `$`", remedy)
}

fn malformed() -> Invalid {
    let remedy = "write `${NAME}` or `${NAME:-default}`; a name is made of letters, digits and `_`";
    Invalid::new("has a malformed variable", remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("9000".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${PORT}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_dollars() {
        let replaced = |text| replace(text, &env, 100).unwrap().unwrap();
        assert_eq!(replaced("10.0.0.1:${PORT}"), "10.0.0.1:9000");
        assert_eq!(replaced("${NO:-a:-b}${EMPTY:-c}${EMPTY}${PORT:-1}"), "a:-bc9000");
        assert_eq!(replaced("$$5 $${PORT}"), "$5 ${PORT}");
        assert_eq!(replaced("${NESTED}"), "${PORT}", "what a variable holds is not looked into");
        assert_eq!(replace("/user/{id}", &env, 100), Ok(None));
    }

    #[test]
    fn faults_name_the_variable_and_the_remedy() {
        let fault = |text| replace(text, &env, 100).unwrap_err().to_string();
        assert_eq!(
            fault("${TOKEN}"),
            "names the variable `TOKEN`, which is not set (set it, or give a default: ${TOKEN:-value})"
        );
        for text in ["${", "${}", "${1A}", "${A B}", "${ä}"] {
            assert!(fault(text).contains("malformed"), "{text}");
        }
        assert!(fault("$PORT").contains("lone") && !fault("$PORT").contains("quotes"));
        assert!(fault("127.0.0.1:$").contains("needs quotes: \"${NAME}\""));
        assert!(fault("${A:-{host}}").contains("default for `A`"));
        assert!(fault(&"${PORT}".repeat(30)).contains("too long"));
    }
}
