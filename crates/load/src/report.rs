//! How measured runs are shown to people: a table in the terminal, charts in a file.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use plotters::prelude::*;
use serde::Serialize;

use crate::stats::{Percentiles, Summary, milliseconds};

/// Everything one call of the bench measured, as it is written to JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub url: String,
    pub started_at: String,
    /// What was asked: lengths, seed, warm-up.
    pub plan: serde_json::Value,
    pub runs: Vec<Summary>,
}

/// Returns the runs as a table, one column a run.
pub fn table(runs: &[Summary]) -> String {
    let mut rows: Vec<(String, Vec<String>)> =
        vec![("".into(), runs.iter().map(|run| run.label.clone()).collect())];
    let mut row = |name: &str, cell: &dyn Fn(&Summary) -> String| {
        rows.push((name.to_owned(), runs.iter().map(cell).collect()));
    };
    row("requests (failed)", &|run| format!("{} ({})", run.requests, run.failed));
    row("seconds", &|run| format!("{:.1}", run.seconds));
    row("requests/s", &|run| format!("{:.2}", run.requests_per_second));
    row("output tokens/s", &|run| format!("{:.1}", run.output_tokens_per_second));
    row("total tokens/s", &|run| format!("{:.1}", run.total_tokens_per_second));
    row("input tokens (cached)", &|run| format!("{} ({})", run.input_tokens, run.cached_tokens));
    if runs.iter().any(|run| run.goodput_per_second.is_some()) {
        row("goodput, requests/s", &|run| {
            let share = run.good_share.unwrap_or(0.0) * 100.0;
            run.goodput_per_second.map_or("-".into(), |good| format!("{good:.2} ({share:.0} %)"))
        });
    }
    type Pick = fn(&Summary) -> Option<Percentiles>;
    let timings: [(&str, Pick); 4] = [
        ("TTFT", |run| run.ttft_ms),
        ("TPOT", |run| run.tpot_ms),
        ("gap between chunks", |run| run.gap_ms),
        ("end to end", |run| run.e2e_ms),
    ];
    for (name, pick) in timings {
        row(&format!("{name}, ms p50 / p95 / p99"), &|run| {
            pick(run)
                .map_or("-".into(), |p| format!("{} / {} / {}", short(p.p50), short(p.p95), short(p.p99)))
        });
    }
    let mut text = align(&rows);
    for run in runs {
        for (error, count) in &run.errors {
            let _ = writeln!(text, "{}: {count} × {error}", run.label);
        }
    }
    text
}

fn short(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.0}") }
}

fn align(rows: &[(String, Vec<String>)]) -> String {
    let width = |text: &str| text.chars().count();
    let first = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let columns = rows.first().map_or(0, |(_, cells)| cells.len());
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|(_, cells)| width(&cells[column])).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (name, cells) in rows {
        let _ = write!(text, "{name:<first$}");
        for (cell, column) in cells.iter().zip(&widths) {
            let _ = write!(text, "  {cell:>column$}");
        }
        text.push('\n');
    }
    text
}

/// Writes charts to an `.svg` file, or charts and table to an `.html` file that needs nothing else.
pub fn write_report(report: &Report, path: &Path) -> anyhow::Result<()> {
    let svg = charts(&report.runs).context("drawing the charts")?;
    let text = match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => svg,
        Some("html") => page(report, &svg),
        _ => anyhow::bail!("{}: a report ends in .svg or .html", path.display()),
    };
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn page(report: &Report, svg: &str) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let model = report.runs.first().map_or("", |run| &run.model);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>baseload bench: {model}</title>\n\
         <style>body{{font:15px system-ui,sans-serif;margin:2em auto;max-width:1000px;color:#222}}\
         pre{{background:#f6f6f6;padding:1em;overflow:auto}}svg{{width:100%;height:auto}}</style>\n\
         <h1>{model}</h1><p>{url}, {at}</p><pre>{table}</pre>\n{svg}\n<h2>What was asked</h2><pre>{plan}</pre></html>\n",
        model = escape(model),
        url = escape(&report.url),
        at = escape(&report.started_at),
        table = escape(&table(&report.runs)),
        plan = escape(&serde_json::to_string_pretty(&report.plan).unwrap_or_default()),
    )
}

/// Four charts: throughput by run, and the distributions of TTFT, of the gaps, and of end-to-end times.
fn charts(runs: &[Summary]) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1000, 760)).into_drawing_area();
        root.fill(&WHITE)?;
        let areas = root.split_evenly((2, 2));
        throughput(&areas[0], runs)?;
        let times = |pick: &dyn Fn(&Summary) -> Vec<f64>| runs.iter().map(pick).collect::<Vec<_>>();
        let of = |run: &Summary, time: &dyn Fn(&crate::client::Sample) -> Option<std::time::Duration>| {
            let good = run.samples.iter().filter(|sample| sample.error.is_none());
            good.filter_map(time).map(milliseconds).collect::<Vec<f64>>()
        };
        distribution(&areas[1], "Time to first token", runs, times(&|run| of(run, &|s| s.first_token)))?;
        let gaps = times(&|run| {
            let good = run.samples.iter().filter(|sample| sample.error.is_none());
            good.flat_map(|sample| &sample.gaps).copied().map(milliseconds).collect()
        });
        distribution(&areas[2], "Gap between chunks", runs, gaps)?;
        distribution(&areas[3], "End to end", runs, times(&|run| of(run, &|s| Some(s.end_to_end))))?;
        root.present()?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn throughput(area: &Area<'_>, runs: &[Summary]) -> anyhow::Result<()> {
    let most = runs.iter().map(|run| run.output_tokens_per_second).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Output tokens per second", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(55)
        .build_cartesian_2d((0..runs.len().max(1) - 1).into_segmented(), 0.0..most * 1.15)?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(index) => runs.get(*index).map_or(String::new(), |run| run.label.clone()),
        _ => String::new(),
    };
    chart.configure_mesh().disable_x_mesh().x_label_formatter(&name).x_labels(runs.len().max(1)).draw()?;
    for (index, run) in runs.iter().enumerate() {
        let color = Palette99::pick(index);
        let corners = [
            (SegmentValue::Exact(index), 0.0),
            (SegmentValue::Exact(index + 1), run.output_tokens_per_second),
        ];
        let mut bar = Rectangle::new(corners, color.filled());
        bar.set_margin(0, 0, 14, 14);
        chart.draw_series([bar])?;
        let label = format!("{:.1}", run.output_tokens_per_second);
        let at = (SegmentValue::CenterOf(index), run.output_tokens_per_second + most * 0.07);
        chart.draw_series([Text::new(label, at, ("sans-serif", 14))])?;
    }
    Ok(())
}

/// A cumulative distribution, one line a run: how many percent were at most so slow.
fn distribution(area: &Area<'_>, title: &str, runs: &[Summary], values: Vec<Vec<f64>>) -> anyhow::Result<()> {
    let most = values.iter().flatten().copied().fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{title} (ms), share of all in %"), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..most * 1.02, 0.0..100.0)?;
    chart.configure_mesh().light_line_style(WHITE.mix(0.0)).draw()?;
    for (index, (run, mut values)) in runs.iter().zip(values).enumerate() {
        values.sort_by(f64::total_cmp);
        let count = values.len().max(1) as f64;
        let steps = values.iter().enumerate().flat_map(|(rank, ms)| {
            [(*ms, rank as f64 / count * 100.0), (*ms, (rank + 1) as f64 / count * 100.0)]
        });
        let color = Palette99::pick(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(steps, color))?
            .label(&run.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Sample;
    use crate::stats::Slo;

    fn report() -> Report {
        let sample = |ms: u64, error: Option<String>| Sample {
            first_token: Some(Duration::from_millis(ms)),
            end_to_end: Duration::from_millis(ms * 10),
            gaps: vec![Duration::from_millis(ms)],
            output_tokens: 10,
            input_tokens: 100,
            error,
            ..Sample::default()
        };
        let samples = vec![sample(10, None), sample(30, None), sample(1, Some("status 500: <no>".into()))];
        let summary =
            Summary::of("2 clients".into(), "tiny", samples, Duration::from_secs(1), Slo::default());
        Report {
            url: "http://localhost".into(),
            started_at: "2026-01-01T00:00:00Z".into(),
            plan: serde_json::json!({"seed": 1}),
            runs: vec![summary],
        }
    }

    #[test]
    fn the_table_shows_medians_and_names_each_error() {
        let text = table(&report().runs);
        assert!(text.contains("3 (1)"), "{text}");
        let ttft = text.lines().find(|line| line.starts_with("TTFT")).unwrap();
        assert!(ttft.ends_with("20 / 29 / 30"), "{ttft}");
        assert!(text.contains("2 clients: 1 × status 500"), "{text}");
    }

    #[test]
    fn reports_are_svg_or_html_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (svg, html) = (folder.path().join("r.svg"), folder.path().join("r.html"));
        write_report(&report(), &svg).unwrap();
        write_report(&report(), &html).unwrap();
        assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg"));
        let page = std::fs::read_to_string(html).unwrap();
        assert!(page.contains("<svg") && page.contains("&lt;no>"), "the error text must be escaped");
        assert!(write_report(&report(), &folder.path().join("r.pdf")).is_err());
    }
}
