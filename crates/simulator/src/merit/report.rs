//! How is it told, as a table and as a picture?

use std::fmt::Write;

use domain::{Money, Usage};

use super::policy::Policy;
use super::replay::Scenario;
use super::summary::{Summary, cheapest};
use super::units::{Behaviour, Supply};

/// The levels of attainment at which policies are compared.
pub const LEVELS: [f64; 6] = [0.90, 0.95, 0.97, 0.98, 0.99, 0.995];

/// What was tried: each kind of policy with all the settings of its knobs.
pub struct Kind<'a> {
    pub name: &'a str,
    pub colour: &'a str,
    pub runs: &'a [Summary],
}

pub fn names(scenario: &Scenario) -> Vec<&str> {
    scenario.supplies.iter().map(short).collect()
}

fn short(supply: &Supply) -> &str {
    if supply.unit.provider.is_local() { "own" } else { supply.unit.provider.as_str() }
}

pub fn units_table(supplies: &[Supply]) -> String {
    let mut text = "| unit | in | USD per million tokens in / out | TTFT median (1,000 tokens), ms | between tokens, ms | limit |\n|---|---|---|---|---|---|\n".to_owned();
    for supply in supplies {
        let million =
            |usage: Usage| supply.cost(&usage).map_or("unpriced".to_owned(), |cost| cost.to_string());
        let input = million(Usage { input_uncached: 1_000_000, ..Usage::default() });
        let output = million(Usage { output: 1_000_000, ..Usage::default() });
        let places: Vec<_> = supply.unit.jurisdictions.iter().map(|place| place.as_str()).collect();
        let behaviour = match supply.behaviour {
            Behaviour::Engine => {
                "26 and its queue | 4.6 to 28 by load | its keys and values: 440,000 tokens".to_owned()
            }
            Behaviour::Hosted(hosted) => format!(
                "{} | {} | {} requests a minute; slower beyond {} at once",
                hosted.ttft_ms + hosted.ttft_ms_per_thousand,
                hosted.per_token_ms,
                hosted.requests_per_minute,
                hosted.concurrency
            ),
        };
        let (id, places) = (&supply.unit.id, places.join(", "));
        writeln!(text, "| `{id}` | {places} | {input} / {output} | {behaviour} |")
            .expect("a string takes all");
    }
    text
}

/// The cheapest setting of each kind that attains each level.
pub fn levels_table(kinds: &[Kind<'_>], names: &[&str]) -> String {
    let mut text = "| SLO attained by at least |".to_owned();
    kinds.iter().for_each(|kind| text += &format!(" {} |", kind.name));
    text += "\n|---|";
    kinds.iter().for_each(|_| text += "---|");
    text += "\n";
    for level in LEVELS {
        write!(text, "| {} % |", round(level * 100.0)).expect("a string takes all");
        for kind in kinds {
            match cheapest(kind.runs, level) {
                Some(summary) => {
                    let (cost, name) = (usd(summary.cost), settings(&summary.policy, names));
                    write!(text, " **{cost}** ({name}) |")
                }
                None => {
                    let best = kind.runs.iter().map(Summary::attainment).fold(0.0, f64::max);
                    write!(text, " not reached: {} % at best |", percent(best))
                }
            }
            .expect("a string takes all");
        }
        text += "\n";
    }
    text
}

pub fn runs_table(summaries: &[&Summary], names: &[&str]) -> String {
    let mut text =
        "| policy | SLO attained | USD with rent | USD for tokens | TTFT p50 / p99, ms | unanswered | asked more than one | answers by unit |\n|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for summary in summaries {
        let shares: Vec<_> = names
            .iter()
            .zip(&summary.answered_by)
            .map(|(name, count)| {
                format!("{name} {} %", (100 * count + summary.requests / 2) / summary.requests)
            })
            .collect();
        writeln!(
            text,
            "| {} | {} % | {} | {} | {:.0} / {:.0} | {} | {} | {} |",
            summary.policy.name(names),
            percent(summary.attainment()),
            usd(summary.cost),
            usd(summary.tokens_cost),
            summary.ttft_p50_ms,
            summary.ttft_p99_ms,
            summary.unanswered,
            summary.retried,
            shares.join(", "),
        )
        .expect("a string takes all");
    }
    text
}

/// Every run as a point: cost to the right, what misses the SLO upwards on a logarithmic scale, so that good is down left.
pub fn picture(kinds: &[Kind<'_>], title: &str) -> String {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 460.0;
    const LEFT: f64 = 70.0;
    const BOTTOM: f64 = 50.0;
    let dearest = kinds.iter().flat_map(|kind| kind.runs).map(|run| dollars(run.cost)).fold(1.0, f64::max);
    let cost_max = (dearest * 1.05).ceil();
    let x = |cost: f64| LEFT + cost / cost_max * (WIDTH - LEFT - 20.0);
    let missed_min: f64 = 0.0005;
    let y = |missed: f64| {
        let share = (missed.clamp(missed_min, 1.0) / missed_min).ln() / (1.0 / missed_min).ln();
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - 60.0)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    let mut add = |line: String| svg += &(line + "\n");
    for missed in [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0] {
        let (at, percent) = (y(missed), round(missed * 100.0));
        add(format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
            WIDTH - 20.0
        ));
        add(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            LEFT - 6.0,
            at + 4.0
        ));
    }
    let step = (cost_max / 8.0).ceil().max(1.0);
    for tick in 0..=(cost_max / step) as usize {
        let cost = tick as f64 * step;
        add(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{cost}</text>",
            x(cost),
            HEIGHT - BOTTOM + 18.0
        ));
    }
    add(format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">USD for the hour, rent included</text>",
        (LEFT + WIDTH) / 2.0,
        HEIGHT - 12.0
    ));
    add(format!(
        "<text x=\"{LEFT}\" y=\"42\" fill=\"#555\">requests that miss the SLO (down and to the left is better)</text>"
    ));
    // The first kind is drawn last: it must not be hidden.
    for (number, kind) in kinds.iter().enumerate().rev() {
        let (colour, name) = (kind.colour, kind.name);
        let radius = if number == 0 { 5 } else { 3 };
        for run in kind.runs {
            let (x, y) = (x(dollars(run.cost)), y(1.0 - run.attainment()));
            add(format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\" fill-opacity=\"0.6\"/>"
            ));
        }
        let at = 60.0 + 18.0 * number as f64;
        add(format!("<circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"{colour}\"/>", WIDTH - 150.0, at - 4.0));
        add(format!("<text x=\"{}\" y=\"{at}\">{name}</text>", WIDTH - 138.0));
    }
    svg + "</svg>\n"
}

fn settings(policy: &Policy, names: &[&str]) -> String {
    let name = policy.name(names);
    name.split_once(": ").or(name.split_once(", ")).map_or(name.clone(), |(_, settings)| settings.to_owned())
}

/// For a picture and a rounded figure only: what is compared is exact.
fn dollars(money: Money) -> f64 {
    money.pico() as f64 / 1e12
}
pub fn usd(money: Money) -> String {
    format!("{:.2} USD", dollars(money))
}
pub fn percent(share: f64) -> String {
    format!("{:.2}", share * 100.0)
}
fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}
