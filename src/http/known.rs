//! The fields a gateway must know by name; all others pass as they came.

use std::borrow::Cow;

/// What a field is to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing special: forwarded as it came.
    Other,
    /// RFC 9110 7.2
    Host,
    /// RFC 9110 7.6.1
    Connection,
    /// RFC 9110 8.6
    ContentLength,
    /// RFC 9112 6.1
    TransferEncoding,
    /// RFC 9110 10.1.1
    Expect,
    /// RFC 9110 10.1.4: hop-by-hop except `trailers`.
    Te,
    /// Hop-by-hop and nothing else: Keep-Alive, Upgrade, Proxy-* (RFC 9110 7.6.1), and Proxy (CVE-2016-5385).
    HopByHop,
    /// RFC 9110 6.6.2: names the trailer fields that may follow.
    Trailer,
    /// RFC 9110 7.6.3
    Via,
    /// X-Forwarded-For
    ForwardedFor,
    /// X-Forwarded-Proto
    ForwardedProto,
    /// X-Forwarded-Host
    ForwardedHost,
    /// RFC 7239
    Forwarded,
    /// Others that claim to tell who calls: X-Forwarded-*, X-Real-IP, Client-Cert (RFC 9440).
    ForwardedOther,
    /// X-Request-Id
    RequestId,
    /// RFC 9110 11.6.2: no Connection option can remove it.
    Authorization,
    /// RFC 9110 6.6.1
    Date,
    /// RFC 6797
    StrictTransportSecurity,
    /// One of a request that nobody believes: a claim about who calls by who is no trusted proxy, or a name with `_` that to some
    /// is such a claim, or framing. It does not pass, and nobody finds it by its name but the access log.
    Unbelieved,
}

impl Known {
    /// Recognises a field name, in any case.
    pub fn of(name: &[u8]) -> Self {
        let is = |lower: &str| name.eq_ignore_ascii_case(lower.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            3 if is("via") => Self::Via,
            4 if is("host") => Self::Host,
            4 if is("date") => Self::Date,
            5 if is("proxy") => Self::HopByHop,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::HopByHop,
            7 if is("trailer") => Self::Trailer,
            9 if is("forwarded") => Self::Forwarded,
            9 if is("x-real-ip") => Self::ForwardedOther,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::HopByHop,
            11 if is("client-cert") => Self::ForwardedOther,
            12 if is("x-request-id") => Self::RequestId,
            // A response's own report to the client (RFC 9209), not hop-by-hop.
            12 if is("proxy-status") => Self::Other,
            13 if is("authorization") => Self::Authorization,
            14 if is("http2-settings") => Self::HopByHop,
            14 if is("content-length") => Self::ContentLength,
            // Frameworks serve the path that they name instead of the one that was let through.
            14 if is("x-original-url") || is("x-original-uri") => Self::ForwardedOther,
            17 if is("x-original-method") => Self::ForwardedOther,
            15 if is("x-forwarded-for") => Self::ForwardedFor,
            16 if is("x-forwarded-host") => Self::ForwardedHost,
            17 if is("x-forwarded-proto") => Self::ForwardedProto,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("client-cert-chain") => Self::ForwardedOther,
            25 if is("strict-transport-security") => Self::StrictTransportSecurity,
            6.. if starts_with(name, b"proxy-") => Self::HopByHop,
            12.. if starts_with(name, b"x-forwarded-") => Self::ForwardedOther,
            _ if may_be_disguised(name) => Self::of_disguised(name),
            _ => Self::Other,
        }
    }

    /// Whether it says who calls, or which way a request took: of that only a trusted proxy is believed.
    pub fn is_claim(self) -> bool {
        matches!(
            self,
            Self::ForwardedFor
                | Self::ForwardedProto
                | Self::ForwardedHost
                | Self::Forwarded
                | Self::ForwardedOther
                | Self::RequestId
                | Self::Via
        )
    }

    /// CGI and its heirs take `_` for `-`: an `X_Forwarded_For` is an X-Forwarded-For to them, which only the gateway may
    /// write. Such a field does not pass.
    #[cold]
    fn of_disguised(name: &[u8]) -> Self {
        let plain: Vec<u8> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
        match Self::of(&plain) {
            Self::Other => Self::Other,
            _ => Self::HopByHop,
        }
    }
}

/// Long enough to be a known name with a dash, and with an underscore in its place. No allocation comes of ordinary names.
fn may_be_disguised(name: &[u8]) -> bool {
    name.len() >= "keep-alive".len() - 1 && name.contains(&b'_')
}

/// Whether a field of this name is, to those who take `_` for `-`, one of that name.
pub fn is_same_name(a: &[u8], b: &[u8]) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| fold(a) == fold(b))
}

/// A name as all that are the same to [`is_same_name`] have it: in lower case, with `-` for `_`.
pub fn folded(name: &[u8]) -> Cow<'_, [u8]> {
    if name.iter().any(|byte| *byte == b'_' || byte.is_ascii_uppercase()) {
        name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect()
    } else {
        name.into()
    }
}

fn starts_with(name: &[u8], lower: &[u8]) -> bool {
    name.get(..lower.len()).is_some_and(|front| front.eq_ignore_ascii_case(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case_and_only_whole() {
        for (name, known) in [
            ("Host", Known::Host),
            ("hOsT", Known::Host),
            ("Hosts", Known::Other),
            ("Transfer-Encoding", Known::TransferEncoding),
            ("Proxy-Authorization", Known::HopByHop),
            ("Proxy-Status", Known::Other),
            ("proxy", Known::HopByHop),
            ("X-Forwarded-Port", Known::ForwardedOther),
            ("", Known::Other),
            ("HTTP2-Settings", Known::HopByHop),
            ("X_Forwarded_For", Known::HopByHop),
            ("x-real_ip", Known::HopByHop),
            ("Content_Length", Known::HopByHop),
            ("api_key_of_mine", Known::Other),
        ] {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
        }
    }
}
