//! Accept-Encoding (RFC 9110 12.5.3): which of the codings that the gateway has a client likes best.

use super::Coding;

/// A weight in thousandths (RFC 9110 12.4.2).
type Weight = u16;

const WEIGHT_MAX: Weight = 1000;

/// What a client says of each coding; `None`: nothing.
#[derive(Default)]
struct Said {
    codings: [Option<Weight>; Coding::ALL.len()],
    identity: Option<Weight>,
    any: Option<Weight>,
}

/// The coding to answer with: of those that the client takes the one it likes best, of several alike the first in `codings`.
/// `None`: none, since it takes none of them, likes its bytes better as they are, or does not say.
///
/// `values` are those of all fields of that name. A client that sends none takes anything by the letter of the RFC; those that
/// can not read what they get are found among them, so they get bytes as they are. So do those that take nothing that there
/// is, `identity` included: an answer is better than a 406.
pub fn choose<'v>(values: impl Iterator<Item = &'v [u8]>, codings: &[(Coding, u8)]) -> Option<(Coding, u8)> {
    let said = read(values);
    let weight_of = |coding: Coding| said.codings.get(coding.index()).copied().flatten().or(said.any).unwrap_or(0);
    let mut best: Option<((Coding, u8), Weight)> = None;
    for choice in codings {
        let weight = weight_of(choice.0);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*choice, weight));
        }
    }
    let (choice, weight) = best?;
    // One that is not named is taken, but not preferred to any that is.
    (weight >= said.identity.unwrap_or(0)).then_some(choice)
}

/// Members that are no members are left out: what a client did not say in a way that can be read, it did not say.
fn read<'v>(values: impl Iterator<Item = &'v [u8]>) -> Said {
    let mut said = Said::default();
    for member in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        let mut parts = member.splitn(2, |byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let Some(weight) = parts.next().map_or(Some(WEIGHT_MAX), weight) else { continue };
        let is = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let place = if is(&["identity"]) {
            &mut said.identity
        } else if is(&["*"]) {
            &mut said.any
        } else {
            // RFC 9110 8.4.1.3: `x-gzip` is another name for it.
            let of = |coding: Coding| is(&[coding.name()]) || (coding == Coding::Gzip && is(&["x-gzip"]));
            let known = Coding::ALL.iter().find(|coding| of(**coding));
            let Some(place) = known.and_then(|coding| said.codings.get_mut(coding.index())) else { continue };
            place
        };
        // Said twice, the less holds: a coding that is refused anywhere is not sent.
        *place = Some(place.map_or(weight, |earlier| earlier.min(weight)));
    }
    said
}

/// `q=0.5`: at most three digits behind the point, and none of them counts behind 1 (RFC 9110 12.4.2).
fn weight(parameter: &[u8]) -> Option<Weight> {
    let text = parameter.trim_ascii();
    let text = text.strip_prefix(b"q=").or_else(|| text.strip_prefix(b"Q="))?;
    let (whole, rest) = text.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut thousandths: Weight = 0;
    for place in 0..3 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths = thousandths * 10 + Weight::from(digit - b'0');
    }
    match (whole, thousandths) {
        (b'0', _) => Some(thousandths),
        (b'1', 0) => Some(WEIGHT_MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: [(Coding, u8); 3] = [(Coding::Zstd, 3), (Coding::Brotli, 4), (Coding::Gzip, 5)];

    fn chosen(fields: &[&str]) -> Option<Coding> {
        choose(fields.iter().map(|field| field.as_bytes()), &ORDER).map(|(coding, _)| coding)
    }

    #[test]
    fn the_client_chooses_and_ties_go_by_our_order() {
        use Coding::{Brotli, Gzip, Zstd};
        for (value, expected) in [
            ("gzip", Some(Gzip)),
            ("GZip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip, deflate, br", Some(Brotli)),
            ("gzip;q=1.0, br;q=0.9", Some(Gzip)),
            ("gzip; q=0.8 , br ;q=0.8", Some(Brotli)),
            ("gzip;Q=0.001", Some(Gzip)),
            ("br;q=0, gzip", Some(Gzip)),
            ("br;q=0.000", None),
            ("*", Some(Zstd)),
            ("*;q=0.5, gzip", Some(Gzip)),
            ("*, zstd;q=0", Some(Brotli)),
            ("gzip;q=0.2, *;q=0", Some(Gzip)),
            ("*;q=0", None),
            ("identity", None),
            ("identity;q=0", None),
            ("identity;q=0, *", Some(Zstd)),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("identity, gzip", Some(Gzip)),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("deflate, compress", None),
            ("", None),
            (" , ,", None),
            // Said twice: the less.
            ("gzip, gzip;q=0", None),
            ("gzip;q=0, x-gzip", None),
            // What can not be read was not said.
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=0.x, br", Some(Brotli)),
            ("gzip;q=", None),
            ("gzip;q", None),
            ("gzip;level=9", None),
            ("gzip;q=0.5;q=1", None),
            ("gzip;q=-1", None),
            ("gzip;q=\u{661}", None),
            ("gzipp", None),
            ("gzip br", None),
        ] {
            assert_eq!(chosen(&[value]), expected, "{value:?}");
        }
        assert_eq!(chosen(&[]), None, "no field");
        assert_eq!(chosen(&["gzip;q=0.5", "br;q=0.6"]), Some(Brotli), "several fields are one list");
    }

    #[test]
    fn only_what_is_configured_is_chosen() {
        let gzip = [(Coding::Gzip, 1)];
        assert_eq!(choose([&b"br, zstd, gzip;q=0.1"[..]].into_iter(), &gzip), Some((Coding::Gzip, 1)));
        assert_eq!(choose([&b"br, zstd"[..]].into_iter(), &gzip), None);
        assert_eq!(choose([&b"*"[..]].into_iter(), &[]), None);
    }
}
