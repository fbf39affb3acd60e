//! A set of keys as a server publishes it (JWK Set, RFC 7517 5).
//!
//! Each key says itself what it is for: by `kty` and `crv`, narrowed by `alg`, and not at all if `use` or `key_ops` are for
//! something else. Keys of other kinds are left out (RFC 7517 5 asks for it); so are secrets, which nobody publishes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::{Algorithms, by_name};
use super::json;
use super::key::{Key, Material};

/// Keys of one set; an issuer has a handful.
pub const KEYS_MAX: usize = 100;
/// A longer name of a key is none: tokens are read in the path of a request.
pub const KID_BYTES_MAX: usize = 256;

/// The keys of a set that can be used.
///
/// # Errors
/// It is no key set, it has too many keys, or none that can be used. Nothing that it says is repeated.
pub fn parse(bytes: &[u8]) -> Result<Vec<Key>, &'static str> {
    let set = json::object(bytes).ok_or("it is no JSON object in which each name stands once")?;
    let list = set.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
    if list.len() > KEYS_MAX {
        return Err("it has more than 100 keys");
    }
    let keys: Vec<Key> = list.iter().filter_map(|jwk| key(jwk.as_object()?)).collect();
    if keys.is_empty() { Err("it has no key that can be used") } else { Ok(keys) }
}

fn key(jwk: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    // RFC 7517 4.2, 4.3
    if jwk.get("use").is_some_and(|wanted| wanted != "sig") {
        return None;
    }
    if let Some(operations) = jwk.get("key_ops") {
        operations.as_array()?.iter().find(|operation| *operation == "verify")?;
    }
    let wanted = match jwk.get("alg") {
        None => Algorithms::ALL,
        Some(alg) => Algorithms::only(by_name(alg.as_str()?)?),
    };
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= KID_BYTES_MAX)?),
    };
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    // RFC 7518 6.2.1.2: a coordinate has its full length, leading zeros included.
    let point = |len: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == len && y.len() == len).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
    };
    match (text("kty")?, text("crv")) {
        ("RSA", _) => Key::new(kid, &Material::Rsa(&bytes("n")?, &bytes("e")?), wanted),
        ("EC", Some("P-256")) => Key::new(kid, &Material::P256(&point(32)?), wanted),
        ("EC", Some("P-384")) => Key::new(kid, &Material::P384(&point(48)?), wanted),
        ("OKP", Some("Ed25519")) => Key::new(kid, &Material::Ed25519(&bytes("x")?), wanted),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn rsa(more: Value) -> Value {
        let mut jwk = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xc3; 256]), "e": "AQAB"});
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    fn read(keys: &[Value]) -> Result<Vec<Key>, &'static str> {
        parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn names(jwk: Value) -> String {
        match read(&[jwk]).as_deref() {
            Ok([key]) => key.algorithms().names().collect::<Vec<_>>().join(" "),
            _ => String::new(),
        }
    }

    #[test]
    fn a_key_says_itself_what_it_is_for() {
        assert_eq!(names(rsa(json!({}))), "RS256 RS384 RS512 PS256 PS384 PS512");
        assert_eq!(names(rsa(json!({"alg": "PS384", "use": "sig", "key_ops": ["verify"]}))), "PS384");
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        assert_eq!(names(json!({"kty": "OKP", "crv": "Ed25519", "x": x})), "EdDSA");
        assert_eq!(names(json!({"kty": "EC", "crv": "P-256", "x": x, "y": x})), "ES256");
        for other in [
            rsa(json!({"alg": "HS256"})),
            rsa(json!({"alg": "ES256"})),
            rsa(json!({"alg": "RSA-OAEP"})),
            rsa(json!({"alg": 1})),
            rsa(json!({"use": "enc"})),
            rsa(json!({"use": 1})),
            rsa(json!({"key_ops": ["encrypt"]})),
            rsa(json!({"key_ops": "verify"})),
            rsa(json!({"kid": ["a"]})),
            rsa(json!({"kid": "k".repeat(257)})),
            rsa(json!({"n": URL_SAFE_NO_PAD.encode([0xc3; 128])})),
            rsa(json!({"n": "!"})),
            json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 64]), "alg": "HS256"}),
            json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}),
            json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": x}),
            json!({"kty": "OKP", "crv": "X25519", "x": x}),
            json!({}),
        ] {
            assert_eq!(names(other.clone()), "", "{other}");
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        assert_eq!(read(&[rsa(json!({"kid": "a"})), json!({"kty": "other"}), json!(1)]).unwrap().len(), 1);
        assert_eq!(read(&[]).unwrap_err(), "it has no key that can be used");
        assert_eq!(read(&vec![rsa(json!({})); 101]).unwrap_err(), "it has more than 100 keys");
        for text in ["", "<html>", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
