//! A gateway with a plugin: tenants have to be known, and upstream, client and log are told which one it is.

use std::process::ExitCode;

use ringway::plugin::{Answer, Failure, Fault, Flow, Plugin, Registry, Request, Response};
use serde::Deserialize;

mod hostile;

#[global_allocator]
static ALLOCATOR: ringway::Allocator = ringway::Allocator;

fn main() -> ExitCode {
    ringway::run(Registry::new().with::<Tenant>().with::<hostile::Hostile>())
}

/// The filter.
struct Tenant {
    header: String,
    known: Vec<String>,
}

/// Its block: `acme-tenant: { header: x-tenant, known: [red, blue] }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "default_header")]
    header: String,
    known: Vec<String>,
}

fn default_header() -> String {
    "x-tenant".into()
}

impl Plugin for Tenant {
    const NAME: &'static str = "acme-tenant";
    const ABOUT: &'static str = "lets known tenants in, and tells upstream, client and log who it is";
    type Config = Config;

    fn new(Config { header, known }: Config) -> Result<Self, Fault> {
        if known.is_empty() {
            return Err(Fault::new("nobody could call", "list at least one tenant").at("known"));
        }
        Ok(Self { header, known })
    }

    fn on_request(&self, request: &mut Request<'_>) -> Result<Flow, Failure> {
        let said = request.text(&self.header).unwrap_or_default().to_owned();
        if !self.known.contains(&said) {
            let refused = Answer::envelope(403, 90, "this tenant is not known here");
            return Ok(refused.field("X-Tenants", self.known.join(", "))?.into());
        }
        request.set_principal(&said)?; // limits behind this filter can count by it
        request.remove_field(&self.header)?;
        request.set_field("x-acme-tenant", &said)?;
        request.set_answer_field("X-Served-For", &said)?;
        request.log("tenant", &said);
        Ok(Flow::Continue)
    }

    fn on_response(&self, response: &mut Response<'_>) -> Result<(), Failure> {
        response.remove_field("x-powered-by")?;
        let age = response.text("age").and_then(|age| age.parse::<u32>().ok());
        if let Some(age) = age {
            response.log("age", age);
        }
        Ok(())
    }
}
