//! Reading and checking one token: the slow path, 11 to 100 µs. What is found right is then remembered ([`super::cache`]).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::by_name;
use super::jwks::KID_BYTES_MAX;
use super::key::KeySet;
use super::rules::{Rules, Verified};
use super::{Fault, json};

/// The claims of a token that one of `keys` has signed and that says what `rules` ask for.
///
/// # Errors
/// Why it is not accepted. The order is that of trust: nothing of the payload is read before the signature is right.
#[cold]
pub fn verify(token: &[u8], keys: &KeySet, rules: &Rules, now_s: f64) -> Result<Verified, Fault> {
    // RFC 7515 7.1: three parts in base64url; five would be an encrypted token.
    if !token.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(Fault::Malformed);
    }
    let token = std::str::from_utf8(token).map_err(|_| Fault::Malformed)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Fault::Malformed)?;
    if payload.contains('.') {
        return Err(Fault::Malformed);
    }
    let header = decode(header).and_then(|bytes| json::object(&bytes)).ok_or(Fault::Malformed)?;
    // RFC 7515 4.1.11: extensions that must be understood, none of which is.
    if header.contains_key("crit") {
        return Err(Fault::Malformed);
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.as_str()),
        Some(_) => return Err(Fault::Malformed),
    };
    let name = header.get("alg").and_then(Value::as_str).ok_or(Fault::Malformed)?;
    let algorithm = by_name(name).filter(|algorithm| rules.algorithms.has(*algorithm)).ok_or(Fault::Algorithm)?;
    let named = keys.named(kid);
    let fitting = KeySet::for_algorithm(&named, algorithm);
    if fitting.is_empty() {
        return Err(match (named.is_empty() || kid.is_none(), keys.is_waiting()) {
            (true, true) => Fault::NoKeys,
            (true, false) => Fault::UnknownKey,
            (false, _) => Fault::Algorithm,
        });
    }
    let is_by = |key: &&super::Key| {
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key.decoding(), algorithm).unwrap_or(false)
    };
    if !fitting.iter().any(is_by) {
        return Err(Fault::Signature);
    }
    let claims = decode(payload).and_then(|bytes| json::object(&bytes)).ok_or(Fault::Malformed)?;
    rules.judge(&claims, now_s)
}

/// RFC 7515 2: without padding, and without bits that are not used.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Algorithms, Key, Source};
    use super::*;
    use jsonwebtoken::{Algorithm, EncodingKey};

    const NOW: f64 = 1_800_000_000.0;
    const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

    fn sign(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    fn hs256(header: &str) -> String {
        sign(header, r#"{"exp":1800000001,"sub":"u"}"#, &EncodingKey::from_secret(SECRET), Algorithm::HS256)
    }

    fn secret(kid: Option<&str>) -> Key {
        Key::from_secret(kid, SECRET, Algorithms::only(Algorithm::HS256)).unwrap()
    }

    fn check(token: &str, keys: &[Key]) -> Result<Verified, Fault> {
        verify(token.as_bytes(), &KeySet::new(keys, None), &Rules::default(), NOW)
    }

    #[test]
    fn a_key_is_found_by_its_name_or_has_none() {
        let keys = [secret(Some("a"))];
        assert_eq!(check(&hs256(r#"{"alg":"HS256","kid":"a"}"#), &keys).unwrap().principal.as_deref(), Some("u"));
        assert!(check(&hs256(r#"{"alg":"HS256"}"#), &keys).is_ok());
        assert_eq!(check(&hs256(r#"{"alg":"HS256","kid":"b"}"#), &keys), Err(Fault::UnknownKey));
        assert!(check(&hs256(r#"{"alg":"HS256","kid":"b"}"#), &[secret(None)]).is_ok());
        let many: Vec<Key> = (0..5).map(|n| secret(Some(&n.to_string()))).collect();
        assert_eq!(check(&hs256(r#"{"alg":"HS256"}"#), &many), Err(Fault::UnknownKey), "not all of them are tried");
    }

    #[test]
    fn a_public_key_is_no_secret() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let pem = pair.public_key_pem();
        let key = Key::from_pem(Some("a"), pem.as_bytes(), None).unwrap();
        let header = r#"{"alg":"HS256","kid":"a"}"#;
        for secret in [pem.as_bytes(), pem.trim().as_bytes(), pair.public_key_raw()] {
            let token = sign(header, r#"{"exp":1800000001}"#, &EncodingKey::from_secret(secret), Algorithm::HS256);
            assert_eq!(check(&token, std::slice::from_ref(&key)), Err(Fault::Algorithm));
            let unnamed = sign(r#"{"alg":"HS256"}"#, "{}", &EncodingKey::from_secret(secret), Algorithm::HS256);
            assert_eq!(check(&unnamed, std::slice::from_ref(&key)), Err(Fault::UnknownKey));
        }
    }

    #[test]
    fn headers_that_are_not_understood_are_refused() {
        let keys = [secret(None)];
        for (header, fault) in [
            (r#"{"alg":"none"}"#, Fault::Algorithm),
            (r#"{"alg":"hs256"}"#, Fault::Algorithm),
            (r#"{"alg":["HS256"]}"#, Fault::Malformed),
            (r#"{"typ":"JWT"}"#, Fault::Malformed),
            (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, Fault::Malformed),
            (r#"{"alg":"HS256","crit":[]}"#, Fault::Malformed),
            (r#"{"alg":"HS256","alg":"HS256"}"#, Fault::Malformed),
            (r#"{"alg":"HS256","kid":["a"]}"#, Fault::Malformed),
            (r#"{"alg":"HS256","kid":1}"#, Fault::Malformed),
            (r#"["HS256"]"#, Fault::Malformed),
        ] {
            assert_eq!(check(&hs256(header), &keys), Err(fault), "{header}");
        }
        let long = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(257));
        assert_eq!(check(&hs256(&long), &keys), Err(Fault::Malformed));
        let embedded = r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"jku":"http://evil/","x5u":"http://evil/"}"#;
        assert!(check(&hs256(embedded), &keys).is_ok(), "what it says of keys is not read");
        let own = sign(embedded, r#"{"exp":1800000001}"#, &EncodingKey::from_secret(&[0; 3]), Algorithm::HS256);
        assert_eq!(check(&own, &keys), Err(Fault::Signature));
    }

    #[test]
    fn forms_that_are_none_are_refused() {
        let keys = [secret(None)];
        let good = hs256(r#"{"alg":"HS256"}"#);
        assert!(check(&good, &keys).is_ok());
        let cut = |n: usize| good.get(..good.len() - n).unwrap().to_owned();
        for token in [
            String::new(),
            ".".into(),
            "..".into(),
            "a.b.c".into(),
            format!("{good}.{good}"),
            format!("{good}."),
            format!("{good} "),
            format!("\u{e9}{good}"),
            good.replace('.', ".."),
            cut(44),
            format!("{good}="),
            format!("{}\u{e9}", cut(2)),
        ] {
            assert_eq!(check(&token, &keys).unwrap_err(), Fault::Malformed, "{token}");
        }
        for token in [cut(1), cut(43), format!("{good}AAAA")] {
            assert_eq!(check(&token, &keys).unwrap_err(), Fault::Signature, "{token}");
        }
        let twice = sign(
            r#"{"alg":"HS256"}"#,
            r#"{"exp":1800000001,"sub":"u","sub":"admin"}"#,
            &EncodingKey::from_secret(SECRET),
            Algorithm::HS256,
        );
        assert_eq!(check(&twice, &keys), Err(Fault::Malformed));
    }

    #[test]
    fn without_fetched_keys_nothing_can_be_said_of_others() {
        let keys = KeySet::new([secret(Some("own"))], Some(Source::default()));
        let check = |header: &str| verify(hs256(header).as_bytes(), &keys, &Rules::default(), NOW).err();
        assert_eq!(check(r#"{"alg":"HS256","kid":"own"}"#), None);
        assert_eq!(check(r#"{"alg":"HS256","kid":"other"}"#), Some(Fault::NoKeys));
        assert_eq!(check(r#"{"alg":"RS256","kid":"own"}"#), Some(Fault::Algorithm));
    }
}
