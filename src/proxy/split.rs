//! Which upstream of a split a request goes to.

use crate::core::Core;
use crate::request::{Request, cookie_value};
use crate::snapshot::{Forward, Split, Sticky};

/// The index of the upstream that a request goes to: by chance, or by the value that sticks. A client without the cookie gets
/// one; what a client sends is only hashed, so that it can name nothing.
#[inline]
pub(super) fn upstream(action: &Forward, req: &mut Request, core: &Core) -> usize {
    match &action.split {
        None => action.upstream,
        Some(split) => choose(split, req, core).unwrap_or(action.upstream),
    }
}

#[inline(never)]
fn choose(split: &Split, req: &mut Request, core: &Core) -> Option<usize> {
    match &split.sticky {
        None => split.upstreams.pick(None),
        Some(Sticky::Header(name)) => {
            let value = req.fields_named(name.as_bytes()).next();
            split.upstreams.pick(value.map(|value| value.of(req.bytes())))
        }
        Some(Sticky::Cookie { name, attributes }) => {
            let mut given = req.cookies().filter_map(|pair| cookie_value(pair, name.as_bytes()));
            if let Some(value) = given.find(|value| !value.is_empty()) {
                return split.upstreams.pick(Some(value));
            }
            drop(given);
            let value = format!("{:016x}", core.random.borrow_mut().next());
            let secure: &[u8] = if req.scheme() == b"https" { b"; Secure" } else { b"" };
            req.own.add(b"Set-Cookie", |out| {
                for part in [name.as_bytes(), b"=", value.as_bytes(), attributes.as_bytes(), secure] {
                    out.extend_from_slice(part);
                }
            });
            split.upstreams.pick(Some(value.as_bytes()))
        }
    }
}
