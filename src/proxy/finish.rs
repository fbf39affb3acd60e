//! The end of a request, exactly once: its reason, its metrics, its log line.

use crate::context::Context;
use crate::core::Core;
use crate::end::{Closed, Deadline, End};
use crate::error::Kind;
use crate::filter::request_limits;
use crate::io::Fired;
use crate::request::Request;
use crate::shared::RouteMetrics;
use crate::shared::metrics::Finished;

use super::log::{self, Names};
use super::plane::{Downstream, Live};

/// Who ended it, and why.
pub fn end_of(kind: Kind) -> End {
    match kind {
        Kind::Malformed(_)
        | Kind::HeadTooLarge
        | Kind::TooManyFields
        | Kind::TargetTooLong
        | Kind::Version
        | Kind::UnknownCoding
        | Kind::BodyMalformed => End::ClientBadRequest,
        Kind::HeaderTimeout => End::ClientTimeoutHeader,
        Kind::BodyTimeout => End::ClientTimeoutBody,
        Kind::WriteTimeout => End::ClientTimeoutWrite,
        Kind::ClientGone => End::ClientGone,
        Kind::BodyTooLarge => End::BodyTooLarge,
        Kind::NoRoute => End::RouteNotFound,
        Kind::MethodNotAllowed => End::MethodNotAllowed,
        Kind::Misdirected => End::Misdirected,
        Kind::TokenRepeated | Kind::TokenMissing | Kind::TokenInvalid => End::Unauthenticated,
        Kind::RightMissing => End::Forbidden,
        Kind::KeysMissing => End::KeysMissing,
        Kind::RateLimited => End::RateLimited,
        Kind::TooManyInFlight => End::ConcurrencyLimited,
        Kind::AddressDenied
        | Kind::CredentialsMissing
        | Kind::CredentialsWrong
        | Kind::OriginRefused
        | Kind::MethodRefused
        | Kind::FieldsRefused
        | Kind::HeadRefused
        | Kind::TypeRefused
        | Kind::PluginRefused
        | Kind::AuthorizationRefused => End::FilterRefused,
        Kind::PluginFailed => End::PluginFailed,
        Kind::AuthorizationFailed => End::AuthorizationFailed,
        Kind::FaultInjected => End::FaultInjected,
        Kind::NoEndpoint => End::NoEndpoint,
        Kind::Connect => End::UpstreamConnect,
        Kind::ConnectTimeout => End::UpstreamConnectTimeout,
        Kind::UpstreamTls => End::UpstreamTls,
        Kind::Reset => End::UpstreamReset,
        Kind::FirstByteTimeout => End::UpstreamTimeoutFirstByte,
        Kind::RouteTimeout => End::RouteTimeout,
        Kind::BadResponse(_) => End::UpstreamBadResponse,
        Kind::UpstreamBodyTimeout => End::UpstreamTimeoutBody,
        Kind::Truncated => End::UpstreamTruncated,
        Kind::TunnelIdle => End::TunnelIdle,
        Kind::Overloaded | Kind::Exhausted | Kind::MemoryFull | Kind::PasswordsBusy => End::Overloaded,
        Kind::Drained => End::Drain,
        Kind::Internal => End::Internal,
    }
}

/// The deadline that fired, if one did.
pub fn deadline_of(kind: Kind) -> Option<Deadline> {
    match kind {
        Kind::HeaderTimeout => Some(Deadline::RequestHeader),
        Kind::BodyTimeout => Some(Deadline::RequestBody),
        Kind::WriteTimeout => Some(Deadline::Write),
        Kind::ConnectTimeout => Some(Deadline::Connect),
        Kind::FirstByteTimeout => Some(Deadline::FirstByte),
        Kind::UpstreamBodyTimeout => Some(Deadline::Body),
        Kind::RouteTimeout => Some(Deadline::Route),
        Kind::TunnelIdle => Some(Deadline::TunnelIdle),
        Kind::Drained => Some(Deadline::Drain),
        _ => None,
    }
}

/// What it means that a wait was given up; `deadline` if its time was over.
pub fn kind_of(fired: Fired, deadline: Kind) -> Kind {
    match fired {
        Fired::Deadline => deadline,
        Fired::Gone => Kind::ClientGone,
        Fired::Shutdown => Kind::Drained,
    }
}

/// Why the connection is closed after such an error.
pub fn closed_by(kind: Kind) -> Closed {
    match end_of(kind) {
        End::ClientBadRequest => Closed::BadRequest,
        End::ClientTimeoutHeader | End::ClientTimeoutBody | End::ClientTimeoutWrite | End::TunnelIdle => {
            Closed::Timeout
        }
        End::Drain => Closed::Drain,
        End::ClientGone | End::UpstreamTruncated | End::UpstreamTimeoutBody => Closed::Aborted,
        _ => Closed::Requested,
    }
}

/// Counts and logs a request. Call it once, when its last byte was sent or given up.
pub fn finish(req: &mut Request, down: &Downstream, live: &Live, core: &Core, cx: &Context) {
    if let Some(limiter) = req.body_limiter.take() {
        request_limits::on_end(&limiter, cx.end, req);
    }
    let snapshot = &live.snapshot;
    let now_us = core.clock.now_us();
    let route = cx.route.and_then(|index| snapshot.routes.get(index));
    let upstream = cx.upstream.and_then(|index| snapshot.upstreams.get(index));
    count(route.map_or(&snapshot.no_route, |route| &route.metrics), cx, now_us);
    let names = Names {
        route: route.map_or("", |route| &route.name),
        upstream: upstream.map_or("", |upstream| &upstream.name),
        endpoint: cx.endpoint.and_then(|index| Some(&upstream?.endpoints.get(index)?.address)),
    };
    log::write(req, down, &snapshot.access_log, core, cx, names, now_us);
}

/// How long it took in all, for the upstream and for the gateway itself, in µs. What is neither's was the client's.
pub(super) fn times(cx: &Context, now_us: u64) -> (u64, Option<u64>, u64) {
    let total_us = now_us.saturating_sub(cx.started_us);
    let upstream_us = cx.upstream_us();
    (total_us, upstream_us, total_us.saturating_sub(upstream_us.unwrap_or(0)).saturating_sub(cx.client_us))
}

/// Counts a request that ended at `now_us`.
pub fn count(metrics: &RouteMetrics, cx: &Context, now_us: u64) {
    let (total_us, upstream_us, added_us) = times(cx, now_us);
    metrics.finish(&Finished {
        status: cx.status,
        end: cx.end,
        bytes_in: cx.bytes_in,
        bytes_out: cx.bytes_out,
        total_us,
        upstream_us,
        added_us,
    });
}
