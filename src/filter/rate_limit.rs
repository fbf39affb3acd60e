//! `rate_limit`: a token bucket per key. The decision waits for nothing, see [`limit`](crate::limit).

use crate::core::Core;
use crate::error::Kind;
use crate::http::quota::{self, Policy};
use crate::http::reply::Reply;
use crate::limit::{Decision, Spec};
use crate::observe::access_log;
use crate::request::Request;
use crate::shared::FilterMetrics;
use crate::shared::limits::Wallet;

use super::limit_key::LimitKey;
use super::{Flow, note_refusal};

/// The filter, as one route and listener use it.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Its name, which is that of the limit.
    pub name: String,
    /// The limit's numbers.
    pub spec: Spec,
    /// The limit's process wallet.
    pub wallet: Wallet,
    /// What it counts by.
    pub key: LimitKey,
    /// Tokens that a request of this route costs.
    pub cost: u64,
    /// What would be refused is counted and logged, and passes.
    pub dry_run: bool,
    /// A limit behind it may refuse the request: then its tokens are given back.
    pub gives_back: bool,
    /// What clients are told of it; `None`: nothing but Retry-After.
    pub policy: Option<Policy>,
    /// This core's counters.
    pub metrics: FilterMetrics,
}

impl RateLimit {
    /// Takes the request's tokens, or answers 429. `index` is its own among the filters of the request.
    pub fn on_request(&self, index: usize, req: &mut Request, core: &Core) -> Flow {
        if self.cost == 0 {
            return Flow::Continue;
        }
        // The request is read while they are written.
        let mut charges = self.gives_back.then(|| std::mem::take(&mut req.charges));
        let decision = core.with_limit_key(
            |out| self.key.write(req, out),
            |key| {
                let wallet = core.wallet(&self.wallet);
                let decision = match self.policy {
                    None => wallet.check(&self.spec, key, self.cost, req.received_us),
                    Some(_) => wallet.check_and_tell(&self.spec, key, self.cost, req.received_us),
                };
                if let Some(charges) = charges.as_mut().filter(|_| decision.is_allowed()) {
                    charges.add(index, key);
                }
                decision
            },
        );
        if let Some(charges) = charges {
            req.charges = charges;
        }
        match decision {
            Decision::Deny { .. } if self.dry_run => {
                self.metrics.would_refuse.add(1);
                access_log::write_name(&self.name, &mut req.would_refuse);
                Flow::Continue
            }
            Decision::Allow { remaining } => {
                self.metrics.passed.add(1);
                if let Some(policy) = &self.policy {
                    tell(policy, req, remaining, self.spec.reset_ms(remaining).div_ceil(1000), false);
                }
                Flow::Continue
            }
            Decision::Deny { retry_after_ms, remaining } => self.refuse(req, remaining, retry_after_ms),
        }
    }

    /// The request that this let pass, for tokens of this key, goes no further.
    pub fn give_back(&self, key: &[u8], req: &Request, core: &Core) {
        core.wallet(&self.wallet).give_back(&self.spec, key, self.cost, req.received_us);
    }

    #[cold]
    fn refuse(&self, req: &mut Request, remaining: u64, retry_after_ms: u64) -> Flow {
        let wait_s = retry_after_ms.div_ceil(1000).max(1);
        note_refusal(&self.name, &self.metrics, req);
        if let Some(policy) = &self.policy {
            // Whatever another process may have at hand: here it is not enough.
            tell(policy, req, remaining.min(self.cost.saturating_sub(1)), wait_s, true);
        }
        Flow::Reply(Reply::come_again(Kind::RateLimited, &req.request_id, wait_s))
    }
}

fn tell(policy: &Policy, req: &mut Request, remaining: u64, wait_s: u64, is_refused: bool) {
    if policy.is_legacy() {
        for name in quota::LEGACY {
            req.answer_edits.remove(name.as_bytes());
        }
    }
    req.quota.add(policy, remaining, wait_s, is_refused);
}
