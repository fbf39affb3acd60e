//! A plugin that does what the request tells it to, all of it wrong or unusual: what a gateway has to live with.

use ringway::plugin::{Answer, Failure, Fault, Flow, Plugin, Request, Response};
use serde::Deserialize;

/// The filter. Its name in the config says which of several it is, in what it does and in the fields it writes.
pub(crate) struct Hostile {
    mark: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    mark: String,
}

impl Plugin for Hostile {
    const NAME: &'static str = "acme-hostile";
    const ABOUT: &'static str = "does wrong what the query says";
    type Config = Config;

    fn new(Config { mark }: Config) -> Result<Self, Fault> {
        match mark.as_str() {
            "panic" => panic!("a plugin that can not be made"),
            _ => Ok(Self { mark }),
        }
    }

    fn on_request(&self, request: &mut Request<'_>) -> Result<Flow, Failure> {
        let mark = self.mark.clone();
        request.add_field("x-seen", &mark)?;
        let told = format!("{mark} {} {}", request.method(), request.param("id").unwrap_or("-"));
        request.keep(mark.clone());
        request.set_answer_field(&format!("X-Asked-{mark}"), told)?;
        match order(request, "request", &mark) {
            "panic" => panic!("on a request"),
            "object" => std::panic::panic_any(7),
            "fail" => {
                "x".parse::<u8>()?;
            }
            "line" => request.set_field("x-a", "1\r\nx-b: 2")?,
            "length" => request.set_field("Content-Length", "5")?,
            "host" => request.remove_field("host")?,
            "answer" => {
                let answer = Answer::new(200)
                    .field("Content-Type", "text/plain")?
                    .field(&format!("X-Asked-{mark}"), "twice")?
                    .body("made here");
                return Ok(answer.into());
            }
            "teapot" => return Ok(Answer::new(418).into()),
            "empty" => return Ok(Answer::new(204).body("not sent").into()),
            "log" => {
                for n in 0..1000 {
                    request.log(&format!("key{n}"), &"\u{1}\"é\r\n".repeat(20));
                }
                request.log("bad key", 1);
            }
            _ => {}
        }
        Ok(Flow::Continue)
    }

    fn on_response(&self, response: &mut Response<'_>) -> Result<(), Failure> {
        let (mark, status, is_upstreams) = (self.mark.clone(), response.status(), response.is_upstreams());
        let order = order(response.request(), "response", &mark).to_owned();
        let names = response.fields().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        let names = names.collect::<Vec<_>>().join(" ");
        response.add_field("X-Passed", format!("{mark} {status} {is_upstreams}"))?;
        let is_its_own = response.kept::<String>() == Some(mark.clone());
        response.log("kept", is_its_own);
        response.log("status", status);
        response.log("names", &names);
        match order.as_str() {
            "panic" => panic!("on an answer"),
            "fail" => return Err(Failure::new("does not like\r\nthe answer")),
            "line" => response.set_field("X-A", "1\r\nX-B: 2")?,
            "own" => response.set_field(&format!("X-Asked-{mark}"), "twice")?,
            "type" => response.set_field("content-type", "text/x-edited")?,
            _ => {}
        }
        Ok(())
    }
}

/// What the query orders this one to do: `?request.a=panic`.
fn order<'r>(request: &'r Request<'_>, event: &str, mark: &str) -> &'r str {
    let pairs = request.query().unwrap_or_default().split('&');
    let mut named = pairs.filter_map(|pair| pair.split_once('='));
    let is_it = |key: &str| key.split_once('.') == Some((event, mark));
    named.find(|(key, _)| is_it(key)).map_or("", |(_, order)| order)
}
