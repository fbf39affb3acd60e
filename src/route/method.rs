//! Sets of request methods as bits, so that a leaf of the path tree answers "is this method allowed?" with one AND.
//!
//! The nine methods of RFC 9110 and RFC 5789 have fixed bits; other methods that some route names get one each when the
//! router is built; every method that nobody names shares the last bit, which only routes without a method list have.

use http::Method;

/// A set of methods; one bit each.
pub(super) type Set = u64;

/// Every method, also those that no route names, but CONNECT: it asks for a tunnel and for no resource (RFC 9110 9.3.6),
/// which only a route that names it gives.
pub(super) const ANY: Set = Set::MAX & !CONNECT;

const KNOWN: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

const GET: Set = 1;
const CONNECT: Set = 1 << 5;
/// HEAD is answered by a route for GET unless the same pattern has a route for HEAD (RFC 9110 9.3.2).
pub(super) const HEAD: Set = 1 << 1;
/// What a HEAD request falls back to.
pub(super) const INSTEAD_OF_HEAD: Set = GET;

/// Methods outside the nine that all routes together may name: what is left of 64 bits.
pub(super) const OTHERS_MAX: usize = 64 - KNOWN.len() - 2;
const UNNAMED: Set = 1 << 63;
/// No method: what a leaf accepts that must look closer.
pub(super) const LOOK_CLOSER: Set = 1 << 62;

/// With HEAD where there is GET.
pub(super) fn with_head(set: Set) -> Set {
    if set & INSTEAD_OF_HEAD != 0 { set | HEAD } else { set }
}

/// The methods beyond the nine that routes name, in the order of their bits.
#[derive(Default)]
pub(super) struct Methods {
    others: Vec<Method>,
}

impl Methods {
    /// The set that a route's list means; an empty list means every method but CONNECT. `None`: more than [`OTHERS_MAX`] others.
    pub(super) fn set(&mut self, list: &[Method]) -> Option<Set> {
        if list.is_empty() {
            return Some(ANY);
        }
        let mut set = 0;
        for method in list {
            if self.bit(method) == UNNAMED {
                if self.others.len() == OTHERS_MAX {
                    return None;
                }
                self.others.push(method.clone());
            }
            set |= self.bit(method);
        }
        Some(set)
    }

    /// The bit of a request's method.
    #[inline]
    pub(super) fn bit(&self, method: &Method) -> Set {
        match *method {
            Method::GET => GET,
            Method::HEAD => HEAD,
            Method::POST => 1 << 2,
            Method::PUT => 1 << 3,
            Method::DELETE => 1 << 4,
            Method::CONNECT => CONNECT,
            Method::OPTIONS => 1 << 6,
            Method::TRACE => 1 << 7,
            Method::PATCH => 1 << 8,
            _ => match self.others.iter().position(|other| other == method) {
                Some(at) => 1 << (KNOWN.len() + at),
                None => UNNAMED,
            },
        }
    }

    /// The value of an Allow field (RFC 9110 10.2.1): sorted, with HEAD where there is GET.
    #[cold]
    pub(super) fn names(&self, set: Set) -> String {
        let set = with_head(set);
        let all = KNOWN.iter().chain(&self.others).enumerate();
        let mut names: Vec<&str> = all.filter(|(at, _)| set & (1 << at) != 0).map(|(_, m)| m.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_known_method_has_the_bit_of_its_place() {
        let methods = Methods::default();
        for (at, method) in KNOWN.iter().enumerate() {
            assert_eq!(methods.bit(method), 1 << at, "{method}");
        }
    }

    #[test]
    fn other_methods_get_a_bit_when_named_and_share_one_when_not() {
        let mut methods = Methods::default();
        let purge: Method = "PURGE".parse().unwrap();
        let set = methods.set(&[purge.clone(), Method::GET]).unwrap();
        assert_eq!(methods.bit(&purge) & set, methods.bit(&purge));
        assert_eq!(methods.bit(&"BAN".parse().unwrap()) & set, 0);
        assert_eq!(methods.bit(&"BAN".parse().unwrap()) & methods.set(&[]).unwrap(), UNNAMED);
        assert_eq!(methods.names(set), "GET, HEAD, PURGE");
    }

    #[test]
    fn too_many_others_are_refused() {
        let mut methods = Methods::default();
        let list: Vec<Method> = (0..=OTHERS_MAX).map(|i| format!("M{i}").parse().unwrap()).collect();
        assert!(methods.set(&list[..OTHERS_MAX]).is_some());
        assert!(methods.set(&list).is_none());
    }
}
