//! HTTP/1.1 transfer coding (RFC 9112 7).

pub mod chunked;
pub mod payload;
pub mod trailers;
