//! Which upstream of a split a request goes to.

use crate::core::Core;
use crate::http::cache_control::{Private, is_for_networks, private};
use crate::http::head::Field;
use crate::http::known::is_same_name;
use crate::request::{Request, cookie_value};
use crate::snapshot::{Forward, Split, Sticky};

/// The value of a cookie that a client is to get, once the upstream that it stands for has answered: one that is down would
/// else keep the client.
pub(super) struct NewCookie(u64);

/// The index of the upstream that a request goes to: by chance, or by the value that sticks. A client without the cookie gets
/// one; what a client sends is only hashed, so that it can name nothing.
#[inline]
pub(super) fn upstream(action: &Forward, req: &Request, core: &Core) -> (usize, Option<NewCookie>) {
    let Some(split) = &action.split else { return (action.upstream, None) };
    let (chosen, cookie) = choose(split, req, core);
    (chosen.unwrap_or(action.upstream), cookie)
}

#[inline(never)]
fn choose(split: &Split, req: &Request, core: &Core) -> (Option<usize>, Option<NewCookie>) {
    match &split.sticky {
        None => (split.upstreams.pick(None), None),
        Some(Sticky::Header(name)) => (split.upstreams.pick(req.decisive(name.as_bytes()).next()), None),
        Some(Sticky::Cookie { name, .. }) => {
            let mut given = req.cookies().filter_map(|pair| cookie_value(pair, name.as_bytes()));
            if let Some(value) = given.find(|value| !value.is_empty()) {
                return (split.upstreams.pick(Some(value)), None);
            }
            let cookie = NewCookie(core.random.borrow_mut().next());
            (split.upstreams.pick(Some(cookie.text().as_bytes())), Some(cookie))
        }
    }
}

impl NewCookie {
    fn text(&self) -> String {
        format!("{:016x}", self.0)
    }

    /// Hands it to the client, with the answer, whose head is in `came`, and keeps that out of shared caches: who else got it
    /// from there would get the cookie too. All other changes to the answer are made.
    pub(super) fn give(self, action: &Forward, req: &mut Request, came: &[u8]) {
        // Nobody keeps an answer behind which there is a tunnel.
        if self.give_alone(action, req) && req.answer.status != 101 {
            keep_private(req, came);
        }
    }

    /// The same with an answer that no cache keeps. Whether it would have to be kept out of them.
    pub(super) fn give_alone(self, action: &Forward, req: &mut Request) -> bool {
        let sticky = action.split.as_ref().and_then(|split| split.sticky.as_ref());
        let Some(Sticky::Cookie { name, attributes, is_private }) = sticky else { return false };
        let value = self.text();
        let secure: &[u8] = if is_https(req.scheme()) { b"; Secure" } else { b"" };
        req.own.add_to_upstreams(b"Set-Cookie", |out| {
            for part in [name.as_bytes(), b"=", value.as_bytes(), attributes.as_bytes(), secure] {
                out.extend_from_slice(part);
            }
        });
        *is_private
    }
}

/// What the client's own cache may do is left as it is.
fn keep_private(req: &mut Request, came: &[u8]) {
    const NAME: &[u8] = b"Cache-Control";
    let Request { answer, answer_edits, own, .. } = req;
    for field in answer.fields.iter().filter(|field| is_for_networks(field.name.of(came))) {
        answer_edits.remove(field.name.of(came));
    }
    let for_networks: Vec<Vec<u8>> =
        answer_edits.added().filter(|(name, _)| is_for_networks(name)).map(|(name, _)| name.to_vec()).collect();
    for_networks.iter().for_each(|name| answer_edits.remove(name));
    let is_edited = answer_edits.replaces(NAME);
    let passes = |field: &&Field| !is_edited && !answer.fields.is_listed(field, came);
    let came_with = answer.fields.named(NAME, came).filter(passes).map(|field| field.value.of(came));
    let added = answer_edits.added().filter(|(name, _)| is_same_name(name, NAME)).map(|(_, value)| value);
    // What filters put into every answer stands beside these, or in their place.
    let of_others: Vec<&[u8]> = came_with.chain(added).filter(|_| !own.replaces(NAME)).collect();
    let to_be_sent: Vec<&[u8]> = of_others.into_iter().chain(own.named(NAME)).collect();
    match private(&to_be_sent) {
        Private::Said => {}
        Private::Add => own.add(NAME, |out| out.extend_from_slice(b"private")),
        Private::Instead(value) => own.set(NAME, |out| out.extend_from_slice(&value)),
    }
}

/// Whether the client asked over TLS. Schemes have no case (RFC 3986 3.1), and of a list the first is the client's.
fn is_https(scheme: &[u8]) -> bool {
    let first = scheme.split(|byte| *byte == b',').next().unwrap_or_default();
    first.trim_ascii().eq_ignore_ascii_case(b"https")
}

#[cfg(test)]
mod tests {
    use super::is_https;

    #[test]
    fn a_scheme_has_no_case_and_the_first_of_several_is_the_clients() {
        for (scheme, expected) in [
            ("https", true),
            ("HTTPS", true),
            ("Https , http", true),
            ("http, https", false),
            ("httpsx", false),
            ("", false),
        ] {
            assert_eq!(is_https(scheme.as_bytes()), expected, "{scheme}");
        }
    }
}
