//! Everything that can go wrong with one request: what, whose side, and whether it may be sent again.

use std::fmt;

/// What went wrong. Its row in `http/reply.rs` is the answer; its reason code is in `proxy/finish.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not a well-formed request head, or its framing is in doubt.
    Malformed(&'static str),
    /// Head bytes over the bound.
    HeadTooLarge,
    /// Too many field lines.
    TooManyFields,
    /// The target is over the bound.
    TargetTooLong,
    /// HTTP version other than 1.0 and 1.1.
    Version,
    /// A transfer coding other than chunked.
    UnknownCoding,
    /// The head did not arrive within `request_header`.
    HeaderTimeout,
    /// The body paused longer than `request_body`.
    BodyTimeout,
    /// The body is over the route's limit.
    BodyTooLarge,
    /// The body's chunks are malformed.
    BodyMalformed,
    /// The client closed or reset its connection.
    ClientGone,
    /// The client did not take the answer within `write`.
    WriteTimeout,
    /// No route matches.
    NoRoute,
    /// Routes match, but for other methods.
    MethodNotAllowed,
    /// The host asked for is not the one named in the TLS handshake.
    Misdirected,
    /// More than one token, where one is read.
    TokenRepeated,
    /// No token, where one is required.
    TokenMissing,
    /// A token that is not accepted.
    TokenInvalid,
    /// A token that can not be checked, since its keys were never fetched.
    KeysMissing,
    /// More requests than a rate limit allows.
    RateLimited,
    /// More requests in flight than a limit allows.
    TooManyInFlight,
    /// The client's address is not one of those that may call.
    AddressDenied,
    /// Nothing says who calls.
    CredentialsMissing,
    /// What says who calls is not right.
    CredentialsWrong,
    /// As many passwords wait to be compared as may.
    PasswordsBusy,
    /// The caller may not do this.
    RightMissing,
    /// Pages of this origin may not read answers.
    OriginRefused,
    /// A filter allows fewer methods than the route.
    MethodRefused,
    /// A filter allows fewer header fields.
    FieldsRefused,
    /// A filter allows fewer bytes of header fields.
    HeadRefused,
    /// A filter does not allow bodies of this type.
    TypeRefused,
    /// A plugin refused the request; what is answered is its business.
    PluginRefused,
    /// A plugin panicked, or said that it failed.
    PluginFailed,
    /// The service that authorises requests has refused it.
    AuthorizationRefused,
    /// That service has said nothing that counts.
    AuthorizationFailed,
    /// The operator wants it to fail.
    FaultInjected,
    /// The upstream has no endpoint that can be used.
    NoEndpoint,
    /// No connection to the endpoint.
    Connect,
    /// No connection within `connect`.
    ConnectTimeout,
    /// A connection to the endpoint, but no TLS on it.
    UpstreamTls,
    /// The endpoint closed or reset before its answer's head was whole.
    Reset,
    /// No answer within `first_byte`.
    FirstByteTimeout,
    /// No answer within the route's timeout.
    RouteTimeout,
    /// The answer is not HTTP.
    BadResponse(&'static str),
    /// The answer's body paused longer than `body`.
    UpstreamBodyTimeout,
    /// The answer's body ended early, or its chunks are malformed; or a tunnel's upstream broke it off.
    Truncated,
    /// Nothing passed a tunnel for `tunnel_idle`.
    TunnelIdle,
    /// The gateway has as many connections as it may.
    Overloaded,
    /// The gateway has no file descriptor, or no memory, for a connection to the endpoint.
    Exhausted,
    /// Aggregations hold as much memory as they may.
    MemoryFull,
    /// The drain time was over.
    Drained,
    /// A defect of the gateway.
    Internal,
}

/// Whether sending the request again can do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The upstream can not have acted on it, or was about to close the connection anyway.
    Safe,
    /// It may have been acted upon.
    Never,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The upstream's.
    Upstream,
    /// The gateway's own, or nobody's.
    Internal,
}

/// A request that could not be answered as it was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// Whether it may be sent again.
    pub retry: Retry,
}

impl Kind {
    /// Whose fault it is.
    pub fn side(self) -> Side {
        match self {
            Self::Malformed(_)
            | Self::HeadTooLarge
            | Self::TooManyFields
            | Self::TargetTooLong
            | Self::Version
            | Self::UnknownCoding
            | Self::HeaderTimeout
            | Self::BodyTimeout
            | Self::BodyTooLarge
            | Self::BodyMalformed
            | Self::ClientGone
            | Self::WriteTimeout
            | Self::NoRoute
            | Self::MethodNotAllowed
            | Self::Misdirected
            | Self::TokenRepeated
            | Self::TokenMissing
            | Self::TokenInvalid
            | Self::RateLimited
            | Self::TooManyInFlight
            | Self::AddressDenied
            | Self::CredentialsMissing
            | Self::CredentialsWrong
            | Self::RightMissing
            | Self::OriginRefused
            | Self::MethodRefused
            | Self::FieldsRefused
            | Self::HeadRefused
            | Self::TypeRefused
            | Self::PluginRefused
            | Self::AuthorizationRefused => Side::Downstream,
            Self::Connect
            | Self::ConnectTimeout
            | Self::UpstreamTls
            | Self::Reset
            | Self::FirstByteTimeout
            | Self::BadResponse(_)
            | Self::UpstreamBodyTimeout
            | Self::Truncated => Side::Upstream,
            Self::NoEndpoint
            | Self::RouteTimeout
            | Self::Overloaded
            | Self::Exhausted
            | Self::MemoryFull
            | Self::PasswordsBusy
            | Self::KeysMissing
            | Self::PluginFailed
            | Self::AuthorizationFailed
            | Self::FaultInjected
            | Self::TunnelIdle
            | Self::Drained
            | Self::Internal => Side::Internal,
        }
    }

    /// An error that forbids a retry.
    pub fn never(self) -> Error {
        Error { kind: self, retry: Retry::Never }
    }

    /// An error after which sending the request again does no harm.
    pub fn safe(self) -> Error {
        Error { kind: self, retry: Retry::Safe }
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        kind.never()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?})", self.kind, self.kind.side())
    }
}

impl std::error::Error for Error {}
