//! Who ended it, and why: closed sets of reasons, one row each, used as log field and as metric label.
//!
//! The codes are part of the public interface: dashboards and alerts name them. A row may be added, never renamed.

/// Declares a closed set of reasons: one row is `Variant = "code", "what it means";`.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $code:literal, $doc:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = $doc] $variant,)+ }

        impl $name {
            /// Every reason, in the order of [`Self::index`].
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The short stable code that logs and metrics show.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The position in [`Self::ALL`], below [`Self::COUNT`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// How one request ended. Everything but `Ok` names the side at fault first.
    End {
        Ok = "ok", "Answered in full, by an upstream or by the route's own action, whatever the status.";
        ClientGone = "client_gone", "The client closed or reset before the answer was complete.";
        ClientBadRequest = "client_bad_request", "Malformed head or framing: 400, 431, 414, 501 or 505, then closed.";
        ClientTimeoutHeader = "client_timeout_header", "The head did not arrive whole within `request_header`: 408.";
        ClientTimeoutBody = "client_timeout_body", "The request body stalled for `request_body`.";
        ClientTimeoutWrite = "client_timeout_write", "The client did not take the answer for `write`.";
        RouteNotFound = "route_not_found", "No route matches: 404.";
        Misdirected = "misdirected", "The host is not the one whose certificate was asked for: 421.";
        MethodNotAllowed = "method_not_allowed", "A route matches but for the method: 405.";
        BodyTooLarge = "body_too_large", "The request body is over its limit, the route's or that of a filter, which `refused_by` names: 413.";
        FilterRefused = "filter_refused", "A filter answered instead of the route's action.";
        PluginFailed = "plugin_failed", "A plugin panicked or failed: 500.";
        Unauthenticated = "unauthenticated", "No token, or none that is accepted: 401, or 400 for more than one.";
        Forbidden = "forbidden", "An accepted token without the right: 403.";
        KeysMissing = "keys_missing", "The keys that tokens are checked with were never fetched: 503.";
        AuthorizationFailed = "authorization_failed", "The service that `ext_auth` asks said nothing that counts: 503.";
        FaultInjected = "fault_injected", "A `fault` filter answered in place of the route.";
        RateLimited = "rate_limited", "Over a rate limit: 429.";
        ConcurrencyLimited = "concurrency_limited", "Over a limit of requests in flight, queue included: 429.";
        UpstreamConnect = "upstream_connect", "No connection to the endpoint: refused, unreachable, reset.";
        UpstreamConnectTimeout = "upstream_connect_timeout", "No connection within `connect`: 504.";
        UpstreamTls = "upstream_tls", "No TLS with the endpoint: its certificate or its protocol is not accepted: 502.";
        UpstreamReset = "upstream_reset", "The endpoint closed or reset before the head of its answer.";
        UpstreamTimeoutFirstByte = "upstream_timeout_first_byte", "No answer began within `first_byte`: 504.";
        UpstreamTimeoutBody = "upstream_timeout_body", "The body of the answer stalled for `body`.";
        UpstreamBadResponse = "upstream_bad_response", "The answer is not valid HTTP, in head or framing: 502.";
        UpstreamTruncated = "upstream_truncated", "The answer ended before its length, or a tunnel was broken off: the client's connection is cut.";
        TunnelClient = "tunnel_client", "A tunnel that the client ended first, and then the upstream.";
        TunnelUpstream = "tunnel_upstream", "A tunnel that the upstream ended first, and then the client.";
        TunnelIdle = "tunnel_idle", "Nothing passed a tunnel for `tunnel_idle`, or for a minute once one side had ended.";
        RouteTimeout = "route_timeout", "The route's total time passed before the head of the answer: 504.";
        NoEndpoint = "no_endpoint", "The upstream has no endpoint to ask: all drain, or its names do not resolve: 503.";
        PartFailed = "part_failed", "A part without which an aggregation has no answer failed: `parts` in the log says which and why.";
        Overloaded = "overloaded", "A cap, a budget or the descriptors of the gateway are used up: 503.";
        Drain = "drain", "The gateway stops and the drain time is over.";
        Internal = "internal", "A defect of the gateway: 500.";
    }
}

impl End {
    /// The exchange broke off, whatever status had been sent by then: nobody may take it for one that went well.
    #[must_use]
    pub const fn is_broken(self) -> bool {
        matches!(
            self,
            Self::ClientGone
                | Self::ClientTimeoutBody
                | Self::ClientTimeoutWrite
                | Self::UpstreamReset
                | Self::UpstreamTimeoutBody
                | Self::UpstreamBadResponse
                | Self::UpstreamTruncated
                | Self::PluginFailed
                | Self::Drain
                | Self::Internal
        )
    }
}

reasons! {
    /// Why a downstream connection was closed.
    Closed {
        Client = "client", "The client closed between requests.";
        Requested = "requested", "Either side asked for it: `Connection: close`, HTTP/1.0, a close-delimited answer.";
        KeepAlive = "keep_alive", "No further request within `keep_alive`.";
        MaxRequests = "max_requests", "It carried `max_requests` requests.";
        MaxAge = "max_age", "It lived for `max_age`.";
        Timeout = "timeout", "A deadline inside a request fired.";
        BadRequest = "bad_request", "A malformed request: never resumed (RFC 9112 section 11.2).";
        Tunnel = "tunnel", "It was a tunnel, which both sides have ended.";
        Aborted = "aborted", "The answer could not be completed, or the client left within a request.";
        Overloaded = "overloaded", "Accepted over a cap: closed, with 503 or without a word.";
        Drain = "drain", "The gateway stops.";
        TlsHandshake = "tls_handshake", "The TLS handshake did not come to its end.";
        ProxyHeader = "proxy_header", "A trusted proxy sent no PROXY header, a bad one, or half of one.";
        Panic = "panic", "A defect of the gateway, contained to this connection.";
    }
}

reasons! {
    /// Which deadline fired, named as its config key.
    Deadline {
        TlsHandshake = "tls_handshake", "Downstream: the TLS handshake.";
        RequestHeader = "request_header", "Downstream: the whole head of a request.";
        RequestBody = "request_body", "Downstream: idle time within a request body.";
        KeepAlive = "keep_alive", "Downstream: idle time between requests.";
        Write = "write", "Downstream: a write that makes no progress.";
        Connect = "connect", "Upstream: establishing a connection.";
        FirstByte = "first_byte", "Upstream: from the request sent to the first byte of the answer.";
        Body = "body", "Upstream: idle time within the body of an answer.";
        TunnelIdle = "tunnel_idle", "A tunnel through which nothing passes.";
        Route = "route", "The route's total time, up to the head of the answer.";
        Drain = "drain", "The time that a stopping gateway gives to what runs.";
    }
}

reasons! {
    /// Why one call of an endpoint failed.
    Failure {
        Connect = "connect", "No connection.";
        Tls = "tls", "A connection, but no TLS on it.";
        Reset = "reset", "Closed or reset before the answer was complete.";
        Timeout = "timeout", "A deadline fired: connect, first byte, body or route.";
        BadResponse = "bad_response", "The answer is not valid HTTP.";
    }
}

reasons! {
    /// Why a part of an aggregation has no answer of its upstream.
    PartReason {
        Timeout = "timeout", "A deadline fired: the part's, the route's or one of its upstream.";
        Connect = "connect", "No connection, no TLS on it, or no endpoint.";
        Reset = "reset", "The connection ended before the answer was whole.";
        Status = "status", "The status is none of `success`.";
        BreakerOpen = "breaker_open", "The upstream's breaker is open. Counted from the version on that has breakers.";
        RateLimited = "rate_limited", "The upstream answered 429.";
        TooLarge = "too_large", "More bytes, or more items, than the limits allow.";
        BadBody = "bad_body", "No valid HTTP, not JSON, encoded, of another content type, without its `target`, or in conflict.";
        Dependency = "dependency", "A part that it needs failed, or a value that it needs is missing.";
        Condition = "condition", "Not asked: its `when` is false, or a value is missing and `on_missing` is `skip`.";
        Cancelled = "cancelled", "Given up, since the whole had failed or the client left.";
    }
}

reasons! {
    /// What became of a TLS handshake with a client.
    Handshake {
        Full = "full", "A new session.";
        Resumed = "resumed", "An earlier session was resumed.";
        Timeout = "timeout", "It did not end within `tls_handshake`.";
        Closed = "closed", "The client closed or reset within it.";
        PlainHttp = "plain_http", "The client speaks HTTP without TLS: answered 400 in plain text.";
        NotTls = "not_tls", "What came is not the beginning of a handshake.";
        UnknownName = "unknown_name", "The client named a host that no certificate is for, which `unknown_name` refuses.";
        CertificateMissing = "certificate_missing", "A client certificate is required, and none was shown.";
        CertificateExpired = "certificate_expired", "The client certificate, or one it depends on, has expired.";
        CertificateRevoked = "certificate_revoked", "The client certificate, or one it depends on, was revoked.";
        CertificateInvalid = "certificate_invalid", "The client certificate is not accepted for another reason.";
        Refused = "refused", "The client did not accept our certificate, or ended the handshake by an alert.";
        NothingInCommon = "nothing_in_common", "No version, cipher or protocol that both sides speak.";
        Protocol = "protocol", "The client broke a rule of TLS.";
        Drain = "drain", "The gateway stops.";
    }
}

reasons! {
    /// Why an answer was passed on as it is, where answers are compressed.
    Skip {
        NotAccepted = "not_accepted", "The client takes none of the codings, or likes the bytes better as they are.";
        Type = "type", "Its type is not listed.";
        Small = "small", "It is shorter than `min_size`.";
        Encoded = "encoded", "It has a coding already.";
        NoTransform = "no_transform", "`Cache-Control: no-transform`, in it or in the request.";
        Partial = "partial", "It is a range of the whole: 206, or Content-Range.";
        NoBody = "no_body", "Its status has no body: 204, 205, 304.";
        Busy = "busy", "As many answers as may are being compressed.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn check(codes: Vec<(usize, usize, &'static str)>) {
        let distinct: HashSet<_> = codes.iter().map(|(_, _, code)| code).collect();
        assert_eq!(distinct.len(), codes.len(), "codes are distinct");
        for (position, index, code) in codes {
            assert_eq!(position, index);
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code} is a plain label value");
        }
    }

    #[test]
    fn codes_are_distinct_plain_and_indexed() {
        check(End::ALL.iter().enumerate().map(|(i, r)| (i, r.index(), r.code())).collect());
        check(Closed::ALL.iter().enumerate().map(|(i, r)| (i, r.index(), r.code())).collect());
        check(Deadline::ALL.iter().enumerate().map(|(i, r)| (i, r.index(), r.code())).collect());
        check(Handshake::ALL.iter().enumerate().map(|(i, r)| (i, r.index(), r.code())).collect());
        check(PartReason::ALL.iter().enumerate().map(|(i, r)| (i, r.index(), r.code())).collect());
        check(Skip::ALL.iter().enumerate().map(|(i, r)| (i, r.index(), r.code())).collect());
        check(Failure::ALL.iter().enumerate().map(|(i, r)| (i, r.index(), r.code())).collect());
    }
}
