use super::*;

fn used(requests: u64, pico: i128) -> Used {
    let usage = Usage { input_uncached: 1_000 * requests, cache_read: 500, output: 20, ..Usage::default() };
    Used { requests, usage, cost: Money::from_pico(pico) }
}

fn row(model: &str, sums: UsageSums) -> UsageRow {
    UsageRow { names: vec![model.to_owned()], sums }
}

fn priced(requests: u64, pico: i128) -> UsageSums {
    UsageSums { requests, priced: used(requests, pico), ..UsageSums::default() }
}

/// One of each kind: priced, unpriced, estimated with and without a price, unknown, open.
fn mixed() -> UsageSums {
    UsageSums {
        requests: 12,
        open_requests: 1,
        unknown_requests: 2,
        priced: used(3, 10_000_000_000),
        unpriced: used(2, 0),
        estimated: used(4, 7_000_000_000),
        estimated_unpriced_requests: 1,
        ..UsageSums::default()
    }
}

#[test]
fn what_is_unpriced_estimated_and_unknown_stands_apart_from_the_sums() {
    let rows = [row("tiny", priced(1_200, 230_000_000)), row("mixed", mixed())];
    assert_eq!(
        table(&rows, &[Dimension::Model]),
        "\
model  requests  open      input  cached  output  cost (USD)
tiny      1,200     0  1,200,500     500      20     0.00023
mixed        12     1      3,500     500      20        0.01
total     1,212     1  1,204,000   1,000      40     0.01023

Unpriced: no price was in force for this, so it is in none of the sums above
model  requests  input  cached  output
mixed         2  2,500     500      20
total         2  2,500     500      20

Estimated: at most this was used by requests whose end nobody saw; it is in none of the sums above
model  requests  input  cached  output       at most (USD)
mixed         4  4,500     500      20  0.007 + 1 unpriced
total         4  4,500     500      20  0.007 + 1 unpriced

Unknown: 2 requests of which nobody can say what they used; they are in no sum.
"
    );
}

#[test]
fn what_was_saved_is_a_column_beside_what_was_spent_only_where_there_is_some() {
    let repeated = UsageSums {
        requests: 5,
        priced: used(2, 10_000_000_000),
        saved: used(3, 7_000_000_000),
        saved_unpriced_requests: 1,
        ..UsageSums::default()
    };
    let rows = [row("tiny", priced(1, 230_000_000)), row("asked again", repeated)];
    assert_eq!(
        table(&rows, &[Dimension::Model]),
        "\
model        requests  input  cached  output  cost (USD)  repeated         saved (USD)
tiny                1  1,500     500      20     0.00023         0                0.00
asked again         5  2,500     500      20        0.01         3  0.007 + 1 unpriced
total               6  4,000   1,000      40     0.01023         3  0.007 + 1 unpriced
"
    );
    let one: Value = serde_json::from_str(&json(&rows[1..], &[Dimension::Model])).unwrap();
    assert_eq!(one["total"]["saved"]["cost_usd"], "0.007");
    assert_eq!(
        (&one["total"]["saved"]["requests"], &one["total"]["priced"]["requests"]),
        (&json!(3), &json!(2))
    );
}

#[test]
fn where_nothing_is_priced_no_cost_is_made_up() {
    let sums = UsageSums { requests: 2, unpriced: used(2, 0), ..UsageSums::default() };
    let text = table(&[row("free", sums)], &[Dimension::Model]);
    assert!(text.starts_with("model  requests  input  cached  output  cost (USD)\nfree          2      0       0       0           -\n"), "{text}");
}

#[test]
fn without_groups_the_one_row_is_its_own_sum() {
    let all = UsageRow { names: Vec::new(), sums: priced(2, 0) };
    assert_eq!(
        table(&[all], &[]),
        "requests  input  cached  output  cost (USD)\n       2  2,500     500      20        0.00\n"
    );
    assert_eq!(table(&[], &[]).lines().count(), 2);
}

#[test]
fn machine_time_has_a_column_when_there_is_any() {
    let mut sums = priced(1, 5);
    sums.priced.usage.compute_us = 3_723_450_000;
    let text = table(&[row("own", sums)], &[Dimension::Model]);
    assert!(text.contains("machine time"), "{text}");
    assert!(text.contains("1:02:03.4"), "{text}");
}

#[test]
fn csv_quotes_names_and_has_a_column_for_each_kind_of_use() {
    let text = csv(&[row("a,\"b\"", mixed()), row("tiny", priced(1, 230_000_000))], &[Dimension::Model]);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let cell = |row: usize, name: &str| {
        rows[row][names.iter().position(|column| column == name).unwrap()].to_owned()
    };
    assert_eq!(cell(0, "model"), "a,\"b\"");
    assert_eq!((cell(0, "requests"), cell(0, "unknown_requests")), ("12".into(), "2".into()));
    assert_eq!((cell(0, "priced_requests"), cell(0, "priced_cost_usd")), ("3".into(), "0.01".into()));
    assert_eq!((cell(0, "unpriced_requests"), cell(0, "unpriced_output")), ("2".into(), "20".into()));
    assert_eq!(
        (cell(0, "estimated_cost_usd"), cell(0, "estimated_unpriced_requests")),
        ("0.007".into(), "1".into())
    );
    assert_eq!(cell(1, "priced_cost_usd"), "0.00023");
}

#[test]
fn json_tells_costs_as_exact_text_and_none_where_there_is_none() {
    let mut sums = priced(1, 1);
    sums.estimated = used(1, 0);
    sums.estimated_unpriced_requests = 1;
    let value: Value = serde_json::from_str(&json(&[row("tiny", sums)], &[Dimension::Model])).unwrap();
    assert_eq!(value["rows"][0]["model"], "tiny");
    assert_eq!(value["rows"][0]["priced"]["cost_usd"], "0.000000000001");
    assert_eq!(value["rows"][0]["estimated"]["cost_usd"], Value::Null);
    assert_eq!(value["total"]["priced"]["output"], 20);
    assert!(value["total"]["unpriced"].get("cost_usd").is_none());
}

#[test]
fn dimensions_are_read_by_the_names_they_print() {
    for dimension in Dimension::ALL {
        assert_eq!(dimension.to_string().parse(), Ok(dimension));
    }
    assert_eq!("cost-centre".parse(), Ok(Dimension::CostCentre));
    let error = "colour".parse::<Dimension>().unwrap_err().to_string();
    assert!(error.ends_with("or region; got \"colour\""), "{error}");
}
