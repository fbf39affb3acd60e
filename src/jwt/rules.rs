//! What a token must say beside its signature, and what is made of it.

use std::rc::Rc;

use serde_json::{Map, Number, Value};

use super::algorithm::Algorithms;
use super::{Fault, json};

/// From here on several whole numbers are the same one, once they were read as a fraction.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Longer values are not put into fields: whole heads of many servers have no more than that.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// What is asked of tokens, and what is taken from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Further ones are not accepted, whatever a key is for.
    pub algorithms: Algorithms,
    /// `iss` must be one of these; none: any or no issuer.
    pub issuers: Vec<String>,
    /// `aud` must name one of these; none: it is not looked at.
    pub audiences: Vec<String>,
    /// How far the issuer's clock may be off, in s.
    pub leeway_s: f64,
    /// A token without `exp` is refused.
    pub expiry_required: bool,
    /// Claims by name, each with what it must say.
    pub claims: Vec<(String, Wanted)>,
    /// What `scope` or `scp` must name.
    pub scopes: Scopes,
    /// The claim that says who calls.
    pub principal: Option<String>,
    /// Claims whose values are taken along, for header fields.
    pub taken: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            algorithms: Algorithms::ALL,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway_s: 60.0,
            expiry_required: true,
            claims: Vec::new(),
            scopes: Scopes::None,
            principal: Some("sub".to_owned()),
            taken: Vec::new(),
        }
    }
}

/// What a claim must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Anything but null.
    Present,
    /// One of these texts; of a list, one of its items.
    OneOf(Vec<String>),
}

/// Scopes that a token must have (RFC 8693 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scopes {
    /// None.
    None,
    /// One of these.
    Any(Vec<String>),
    /// All of these.
    All(Vec<String>),
}

impl Scopes {
    /// The scopes that are named.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::Any(names) | Self::All(names) => names,
        }
    }
}

/// A token that is right, as a core remembers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Not before this, in s since 1970.
    pub from_s: f64,
    /// And no longer at this; infinite for a token that does not end.
    pub until_s: f64,
    /// It has all rights that are asked for.
    pub has_right: bool,
    /// Who calls.
    pub principal: Option<Rc<str>>,
    /// The values of [`Rules::taken`], in its order, ready for a field line.
    pub values: Box<[Option<Box<[u8]>>]>,
}

impl Verified {
    /// Whether it may be used now.
    ///
    /// # Errors
    /// [`Fault::Expired`] or [`Fault::NotYet`].
    #[inline]
    pub fn at(&self, now_s: f64) -> Result<(), Fault> {
        if now_s >= self.until_s {
            return Err(Fault::Expired);
        }
        if now_s < self.from_s { Err(Fault::NotYet) } else { Ok(()) }
    }

    /// Bytes of memory that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        let values = self.values.iter().map(|value| size_of_val(value) + value.as_ref().map_or(0, |value| value.len()));
        size_of::<Self>() + self.principal.as_ref().map_or(0, |principal| principal.len()) + values.sum::<usize>()
    }
}

impl Rules {
    /// What a token with these claims is worth, signature aside.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn judge(&self, claims: &Map<String, Value>, now_s: f64) -> Result<Verified, Fault> {
        let exp = time(claims, "exp")?;
        if exp.is_none() && self.expiry_required {
            return Err(Fault::Endless);
        }
        let starts = [time(claims, "nbf")?, time(claims, "iat")?];
        let latest = starts.into_iter().flatten().fold(f64::NEG_INFINITY, f64::max);
        let verified = Verified {
            from_s: latest - self.leeway_s,
            until_s: exp.map_or(f64::INFINITY, |exp| exp + self.leeway_s),
            has_right: self.has_claims(claims) && self.has_scopes(claims),
            principal: self.principal.as_ref().and_then(|name| principal(json::claim(claims, name)?)),
            values: self.taken.iter().map(|name| field_value(json::claim(claims, name)?)).collect(),
        };
        verified.at(now_s)?;
        let issuer = claims.get("iss").and_then(Value::as_str);
        if !self.issuers.is_empty() && !self.issuers.iter().any(|wanted| Some(wanted.as_str()) == issuer) {
            return Err(Fault::Issuer);
        }
        if !self.audiences.is_empty() && !claims.get("aud").is_some_and(|aud| says_one_of(aud, &self.audiences)) {
            return Err(Fault::Audience);
        }
        Ok(verified)
    }

    fn has_claims(&self, claims: &Map<String, Value>) -> bool {
        self.claims.iter().all(|(name, wanted)| match (json::claim(claims, name), wanted) {
            (None | Some(Value::Null), _) => false,
            (Some(_), Wanted::Present) => true,
            (Some(value), Wanted::OneOf(texts)) => is_one_of(value, texts),
        })
    }

    fn has_scopes(&self, claims: &Map<String, Value>) -> bool {
        let has = |wanted: &String| {
            ["scope", "scp"].iter().filter_map(|name| claims.get(*name)).any(|value| match value {
                Value::String(list) => list.split(' ').any(|scope| scope == wanted),
                Value::Array(list) => list.iter().any(|scope| scope == wanted),
                _ => false,
            })
        };
        match &self.scopes {
            Scopes::None => true,
            Scopes::Any(names) => names.iter().any(has),
            Scopes::All(names) => names.iter().all(has),
        }
    }
}

/// A NumericDate (RFC 7519 2): a JSON number, in s since 1970, with or without a fraction.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Fault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            number.as_f64().filter(|time| time.is_finite()).map(Some).ok_or(Fault::Malformed)
        }
        Some(_) => Err(Fault::Malformed),
    }
}

/// `aud` is one text or a list of them (RFC 7519 4.1.3).
fn says_one_of(value: &Value, texts: &[String]) -> bool {
    let says = |value: &Value| value.as_str().is_some_and(|text| texts.iter().any(|wanted| wanted == text));
    value.as_array().map_or_else(|| says(value), |list| list.iter().any(says))
}

fn is_one_of(value: &Value, texts: &[String]) -> bool {
    let is = |value: &Value| match value {
        Value::String(text) => texts.contains(text),
        Value::Bool(_) | Value::Number(_) => texts.contains(&value.to_string()),
        _ => false,
    };
    value.as_array().map_or_else(|| is(value), |list| list.iter().any(is))
}

/// Who calls: a text that is not empty, or a number.
fn principal(value: &Value) -> Option<Rc<str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) if is_told_apart(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// Whether no other whole number is the same as this one, which may have been rounded when it was read.
fn is_told_apart(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|value| value.abs() < EXACT_MAX)
}

/// A claim as a field's value: a text or a number as it is, a list of them with commas. What would end the line, or would
/// make two items of one, and what is lost at the ends of a value or an item, is percent-encoded; objects, null and numbers
/// that can not be told from others are no value.
fn field_value(value: &Value) -> Option<Box<[u8]>> {
    fn scalar(value: &Value, is_item: bool, out: &mut Vec<u8>) -> Option<()> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if !is_told_apart(number) => return None,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return None,
        };
        let last = text.len().saturating_sub(1);
        for (at, byte) in text.bytes().enumerate() {
            // What stands for itself everywhere: a value must not become another by what it is put through.
            match byte {
                b'%' | 0..=0x1f | 0x7f.. => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                b' ' if at == 0 || at == last => out.extend_from_slice(b"%20"),
                b',' if is_item => out.extend_from_slice(b"%2C"),
                _ => out.push(byte),
            }
        }
        Some(())
    }
    let mut out = Vec::new();
    match value {
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                scalar(item, true, &mut out)?;
            }
        }
        _ => scalar(value, false, &mut out)?,
    }
    (out.len() <= VALUE_BYTES_MAX).then(|| out.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const NOW: f64 = 1_800_000_000.0;

    fn judge(rules: &Rules, claims: Value) -> Result<Verified, Fault> {
        rules.judge(claims.as_object().unwrap(), NOW)
    }

    #[test]
    fn times_are_numbers_and_have_leeway() {
        let rules = Rules::default();
        let fault = |claims: Value| judge(&rules, claims).err();
        assert_eq!(fault(json!({"exp": NOW + 1.0})), None);
        assert_eq!(fault(json!({"exp": NOW - 59.0})), None);
        assert_eq!(fault(json!({"exp": NOW - 60.0})), Some(Fault::Expired));
        assert_eq!(fault(json!({"exp": 1_799_999_940.5})), None);
        assert_eq!(fault(json!({"exp": 1e300})), None);
        assert_eq!(fault(json!({"exp": u64::MAX})), None);
        assert_eq!(fault(json!({"exp": -1})), Some(Fault::Expired));
        assert_eq!(fault(json!({"exp": -1e300})), Some(Fault::Expired));
        assert_eq!(fault(json!({})), Some(Fault::Endless));
        for wrong in [json!("1900000000"), json!(null), json!([1]), json!(true), json!({})] {
            assert_eq!(fault(json!({ "exp": wrong })), Some(Fault::Malformed), "{wrong}");
            assert_eq!(fault(json!({ "exp": NOW + 9.0, "nbf": wrong })), Some(Fault::Malformed), "{wrong}");
            assert_eq!(fault(json!({ "exp": NOW + 9.0, "iat": wrong })), Some(Fault::Malformed), "{wrong}");
        }
        assert_eq!(fault(json!({"exp": NOW + 9.0, "nbf": NOW + 60.0, "iat": NOW + 60.0})), None);
        assert_eq!(fault(json!({"exp": NOW + 9.0, "nbf": NOW + 61.0})), Some(Fault::NotYet));
        assert_eq!(fault(json!({"exp": NOW + 9.0, "iat": NOW + 61.0})), Some(Fault::NotYet));
        let lasting = Rules { expiry_required: false, ..rules };
        let verified = judge(&lasting, json!({})).unwrap();
        assert!(verified.until_s.is_infinite() && verified.at(f64::MAX).is_ok());
        assert_eq!(judge(&lasting, json!({"exp": 5})).unwrap_err(), Fault::Expired, "one that is there counts");
    }

    #[test]
    fn issuers_and_audiences_are_whole_texts() {
        let rules = Rules { issuers: vec!["a".into(), "b".into()], audiences: vec!["api".into()], ..Rules::default() };
        let fault = |iss: Value, aud: Value| judge(&rules, json!({"exp": NOW, "iss": iss, "aud": aud})).err();
        assert_eq!(fault(json!("b"), json!("api")), None);
        assert_eq!(fault(json!("a"), json!(["x", "api"])), None);
        for iss in [json!("a/"), json!("A"), json!(["a"]), json!(null), json!({"a": 1})] {
            assert_eq!(fault(iss, json!("api")), Some(Fault::Issuer));
        }
        for aud in [json!("api2"), json!([]), json!([["api"]]), json!({"api": 1}), json!(null), json!("api other")] {
            assert_eq!(fault(json!("a"), aud), Some(Fault::Audience));
        }
        assert_eq!(judge(&rules, json!({"exp": NOW, "iss": "a"})).err(), Some(Fault::Audience));
    }

    #[test]
    fn rights_are_claims_and_scopes() {
        let has = |rules: &Rules, claims: Value| {
            let mut all = claims;
            all["exp"] = NOW.into();
            judge(rules, all).unwrap().has_right
        };
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let any = Rules { scopes: Scopes::Any(texts(&["read", "write"])), ..Rules::default() };
        let all = Rules { scopes: Scopes::All(texts(&["read", "write"])), ..Rules::default() };
        for (scope, by_any, by_all) in [
            (json!({"scope": "read write"}), true, true),
            (json!({"scope": "read"}), true, false),
            (json!({"scp": ["write", "read"]}), true, true),
            (json!({"scope": "read", "scp": ["write"]}), true, true),
            (json!({"scp": "write x"}), true, false),
            (json!({"scope": "reads,write"}), false, false),
            (json!({"scope": {"read": 1}}), false, false),
            (json!({}), false, false),
        ] {
            assert_eq!((has(&any, scope.clone()), has(&all, scope.clone())), (by_any, by_all), "{scope}");
        }
        let claims = Rules {
            claims: vec![
                ("tenant".into(), Wanted::OneOf(texts(&["acme", "7", "true"]))),
                ("realm.roles".into(), Wanted::Present),
            ],
            ..Rules::default()
        };
        for tenant in [json!("acme"), json!(7), json!(true), json!(["x", "acme"])] {
            assert!(has(&claims, json!({"tenant": tenant, "realm": {"roles": []}})), "{tenant}");
        }
        for tenant in [json!("acme2"), json!(null), json!(["x"]), json!({"acme": 1}), json!([["acme"]])] {
            assert!(!has(&claims, json!({"tenant": tenant, "realm": {"roles": []}})), "{tenant}");
        }
        assert!(!has(&claims, json!({"tenant": "acme", "realm": {"roles": null}})));
    }

    #[test]
    fn values_can_not_end_a_line_or_become_two() {
        let value = |claim: Value| field_value(&claim).map(|bytes| String::from_utf8(bytes.into()).unwrap());
        assert_eq!(value(json!("a, b")).unwrap(), "a, b");
        assert_eq!(value(json!("a\r\nX: 1\u{0}%é")).unwrap(), "a%0D%0AX: 1%00%25%C3%A9");
        assert_eq!(value(json!(["a,b", 1, true])).unwrap(), "a%2Cb,1,true");
        assert_eq!(value(json!(1.5)).unwrap(), "1.5");
        assert_eq!((value(json!(null)), value(json!({"a": 1})), value(json!([["a"]]))), (None, None, None));
        assert_eq!(value(json!(" a b ")).unwrap(), "%20a b%20");
        assert_eq!(value(json!([" ", "b "])).unwrap(), "%20,b%20");
        let read = |text: &str| json::object(format!("{{\"n\":{text}}}").as_bytes()).unwrap()["n"].clone();
        assert_eq!(value(read("18446744073709551615")).unwrap(), "18446744073709551615");
        assert_eq!((value(read("18446744073709551617")), principal(&read("18446744073709551617"))), (None, None));
        assert_eq!(value(json!("x".repeat(VALUE_BYTES_MAX + 1))), None);
        assert_eq!(principal(&json!("")), None);
        assert_eq!(principal(&json!(42)).as_deref(), Some("42"));
        assert_eq!(principal(&json!(["a"])), None);
    }
}
