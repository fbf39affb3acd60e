//! What a method promises (RFC 9110 9.2).

use http::Method;

/// Whether a request is not meant to change anything (RFC 9110 9.2.1).
pub fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// Whether a request may be sent twice without harm (RFC 9110 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    is_safe(method) || [Method::PUT, Method::DELETE].contains(method)
}
