//! Who is told that a limit's spending has reached a threshold?
//!
//! An alert is posted to one webhook, as JSON, signed: `x-baseload-signature: t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256
//! of `SECONDS.BODY` under the shared secret. An answer other than 2xx, or none within ten seconds, is a failure; the alert
//! comes again after 5 s, 10 s, 20 s, … and then every hour, for about a day and a half, from whichever server is first. So it
//! is delivered at least once; `id` in the body is the same each time.

use std::fmt;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, Mac};
use ledger::{Alert, Journal, LedgerError, Timestamp};
use serde_json::json;
use sha2::Sha256;

use super::every;
use crate::events::{AlertFailed, AlertRaised};

#[derive(Clone)]
pub struct Webhook {
    pub url: String,
    pub secret: String,
}

/// The secret stays out of logs, and a URL may hold one.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook(…)")
    }
}

pub const SIGNATURE: &str = "x-baseload-signature";

const PERIOD: Duration = Duration::from_secs(1);
/// Alerts posted in one turn, one after the other; the rest waits for the next turn.
const ALERTS_PER_TURN: i64 = 16;
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Delivers alerts until `stop` is ready. Without a webhook they are only logged.
pub async fn run(journal: Journal, webhook: Option<Webhook>, stop: impl Future<Output = ()>) {
    let client =
        reqwest::Client::builder().timeout(ANSWER_WAIT).build().expect("the settings of the client are fine");
    every(PERIOD, stop, || async {
        if let Err(error) = deliver(&journal, &client, webhook.as_ref()).await {
            AlertFailed { name: "", why: &error.to_string() }.emit();
        }
    })
    .await;
}

/// Tries each alert that is due, once.
pub async fn deliver(
    journal: &Journal,
    client: &reqwest::Client,
    webhook: Option<&Webhook>,
) -> Result<(), LedgerError> {
    for alert in journal.take_alerts(now(), ALERTS_PER_TURN).await? {
        if alert.tries == 1 {
            AlertRaised { alert: &alert }.emit();
        }
        let posted = match webhook {
            Some(webhook) => post(client, webhook, &alert, now()).await,
            None => Ok(()),
        };
        match posted {
            Ok(()) => journal.alert_delivered(alert, now()).await?,
            Err(why) => AlertFailed { name: &alert.limit.name, why: &why }.emit(),
        }
    }
    Ok(())
}

async fn post(
    client: &reqwest::Client,
    webhook: &Webhook,
    alert: &Alert,
    at: Timestamp,
) -> Result<(), String> {
    let body = body(alert);
    let signature = signature(&webhook.secret, at, &body);
    let request =
        client.post(&webhook.url).header("content-type", "application/json").header(SIGNATURE, signature);
    // The URL may hold a secret: errors are told without it.
    let answer = request.body(body).send().await.map_err(|error| error.without_url().to_string())?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("the webhook answered {status}")),
    }
}

/// Returns `t=SECONDS,v1=HEX`.
pub fn signature(secret: &str, at: Timestamp, body: &str) -> String {
    let seconds = at.millis() / 1_000;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(format!("{seconds}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

fn body(alert: &Alert) -> String {
    let limit = &alert.limit;
    let id = format!("{}-{}-{}-{}", limit.id.0, alert.window_start.millis(), alert.threshold, alert.subject);
    json!({
        "id": id,
        "type": "limit.threshold_reached",
        "limit": limit.name,
        "scope": limit.scope.to_string(),
        "subject": alert.subject,
        "measure": limit.measure.to_string(),
        "window": limit.window.to_string(),
        "window_start": alert.window_start.to_string(),
        "threshold_percent": alert.threshold,
        "amount": limit.measure.show(limit.amount),
        "spent": limit.measure.show(alert.spent),
        "at": alert.at.to_string(),
        "attempt": alert.tries,
    })
    .to_string()
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ledger::{Action, Amount, Hold, NewLimit, Settlement};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_the_time_and_the_body() {
        // printf '7.{}' | openssl dgst -sha256 -hmac secret
        let signature = signature("secret", Timestamp::from_millis(7_999), "{}");
        assert!(signature.starts_with("t=7,v1=") && signature.len() == "t=7,v1=".len() + 64, "{signature}");
        assert_ne!(signature, super::signature("other", Timestamp::from_millis(7_999), "{}"));
    }

    /// Answers each request with the next status, and keeps what it heard.
    async fn webhook(statuses: Vec<u16>) -> (Webhook, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        tokio::spawn(async move {
            for status in statuses {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut text = String::new();
                while !text.ends_with('}') {
                    let mut bytes = [0; 4_096];
                    let count = socket.read(&mut bytes).await.unwrap();
                    text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
                }
                kept.lock().unwrap().push(text);
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (Webhook { url, secret: "shared".into() }, heard)
    }

    #[tokio::test]
    async fn an_alert_is_posted_signed_until_somebody_takes_it_and_then_never_again() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        // Raised long ago, so that each further try is due at once, whatever the back-off.
        let long_ago = Timestamp::from_millis(1_000);
        let limit = NewLimit {
            name: Some("a day of acme".into()),
            scope: "acme".parse().unwrap(),
            measure: "requests".parse().unwrap(),
            amount: Amount(1),
            window: "day".parse().unwrap(),
            action: Action::Refuse,
            thresholds: vec![100],
            at: long_ago,
        };
        journal.set_limit(limit).await.unwrap();
        let usage = domain::Usage { output: 1, ..Default::default() };
        journal.hold(Hold::new("r".into(), "acme".into(), "m".into(), usage, long_ago)).await.unwrap();
        let (end, source) = (domain::UsageEnd::Complete, domain::UsageSource::Measured);
        journal.settle(Settlement { request: "r".into(), usage, end, source, at: long_ago }).await.unwrap();
        assert_eq!(journal.tend(long_ago).await.unwrap(), 1);

        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (webhook, heard) = webhook(vec![500, 204]).await;
        deliver(&journal, &client, Some(&webhook)).await.unwrap();
        // Refused: it is put off, and comes again when its time has come.
        assert!(journal.take_alerts(now(), 9).await.unwrap().is_empty());
        let later = Timestamp::from_millis(now().millis() + 6_000);
        let again = journal.take_alerts(later, 9).await.unwrap();
        assert_eq!(again[0].tries, 2);
        post(&client, &webhook, &again[0], now()).await.unwrap();
        journal.alert_delivered(again[0].clone(), later).await.unwrap();
        let much_later = Timestamp::from_millis(now().millis() + 90_000_000);
        assert!(journal.take_alerts(much_later, 9).await.unwrap().is_empty());

        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 2);
        for text in heard.iter() {
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let signed = head.lines().find_map(|line| line.strip_prefix("x-baseload-signature: ")).unwrap();
            let seconds: i64 = signed[2..].split_once(',').unwrap().0.parse().unwrap();
            assert_eq!(signed, signature("shared", Timestamp::from_millis(seconds * 1_000), body));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["limit"], "a day of acme");
            assert_eq!((&body["threshold_percent"], &body["spent"]), (&100.into(), &"1 requests".into()));
        }
    }
}
