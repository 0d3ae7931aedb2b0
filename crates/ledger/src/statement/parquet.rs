//! How does a statement reach a data warehouse? As one Parquet file with exact decimals.

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::columns::{Cell, flat, flat_names};
use super::{Dimension, UsageRow};

/// What a column holds. Every column may be empty in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Count,
    /// An integer in a unit of so many decimals, in 38 digits: what 128 bits hold.
    Decimal(i32),
    /// Milliseconds since 1970 in UTC.
    Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    Nothing,
    Text(String),
    Count(i64),
    Decimal(i128),
    Instant(i64),
}

/// Decimals of a picodollar.
const MONEY: Kind = Kind::Decimal(12);

/// Returns the sums as a Parquet file: the columns of the CSV, costs as decimals with twelve places.
pub fn parquet(rows: &[UsageRow], by: &[Dimension]) -> Result<Vec<u8>, ParquetError> {
    let mut columns: Vec<(String, Kind)> = by.iter().map(|by| (by.name().to_owned(), Kind::Text)).collect();
    let kind = |name: &String| if name.ends_with("_cost_usd") { MONEY } else { Kind::Count };
    columns.extend(flat_names().into_iter().map(|name| (name.clone(), kind(&name))));
    let cell = |cell: Cell| match cell {
        Cell::Count(count) => Datum::Count(i64::try_from(count).unwrap_or(i64::MAX)),
        Cell::Cost(Some(cost)) => Datum::Decimal(cost.pico()),
        Cell::Cost(None) => Datum::Nothing,
    };
    let row = |row: &UsageRow| {
        let names = row
            .names
            .iter()
            .map(|name| if name.is_empty() { Datum::Nothing } else { Datum::Text(name.clone()) });
        names.chain(flat(&row.sums).into_iter().map(cell)).collect()
    };
    file(&columns, &rows.iter().map(row).collect::<Vec<_>>())
}

/// Returns these rows as a Parquet file.
pub fn file(columns: &[(String, Kind)], rows: &[Vec<Datum>]) -> Result<Vec<u8>, ParquetError> {
    let fields = columns
        .iter()
        .map(|(name, kind)| Ok(Arc::new(field(name, *kind)?)))
        .collect::<Result<_, ParquetError>>()?;
    let schema = Arc::new(Type::group_type_builder("statement").with_fields(fields).build()?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (index, (_, kind)) in columns.iter().enumerate() {
        let mut column = group.next_column()?.expect("the schema has as many columns");
        let cells: Vec<&Datum> = rows.iter().map(|row| &row[index]).collect();
        let there: Vec<i16> = cells.iter().map(|cell| i16::from(**cell != Datum::Nothing)).collect();
        match kind {
            Kind::Text => {
                let values: Vec<ByteArray> = cells.iter().filter_map(|cell| cell.text()).collect();
                column.typed::<ByteArrayType>().write_batch(&values, Some(&there), None)?;
            }
            Kind::Count | Kind::Instant => {
                let values: Vec<i64> = cells.iter().filter_map(|cell| cell.integer()).collect();
                column.typed::<Int64Type>().write_batch(&values, Some(&there), None)?;
            }
            Kind::Decimal(_) => {
                let values: Vec<FixedLenByteArray> = cells.iter().filter_map(|cell| cell.decimal()).collect();
                column.typed::<FixedLenByteArrayType>().write_batch(&values, Some(&there), None)?;
            }
        }
        column.close()?;
    }
    group.close()?;
    writer.into_inner()
}

fn field(name: &str, kind: Kind) -> Result<Type, ParquetError> {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Count => (Physical::INT64, None),
        Kind::Decimal(scale) => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::decimal(scale, 38))),
        Kind::Instant => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
    };
    let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
    match kind {
        Kind::Decimal(scale) => {
            builder.with_logical_type(logical).with_length(16).with_precision(38).with_scale(scale).build()
        }
        _ => builder.with_logical_type(logical).build(),
    }
}

impl Datum {
    fn text(&self) -> Option<ByteArray> {
        match self {
            Datum::Text(text) => Some(text.as_str().into()),
            _ => None,
        }
    }
    fn integer(&self) -> Option<i64> {
        match self {
            Datum::Count(value) | Datum::Instant(value) => Some(*value),
            _ => None,
        }
    }
    fn decimal(&self) -> Option<FixedLenByteArray> {
        match self {
            Datum::Decimal(value) => Some(ByteArray::from(value.to_be_bytes().to_vec()).into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{Money, Usage};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;
    use crate::statement::{UsageSums, Used};

    #[test]
    fn counts_and_costs_come_back_exactly_and_a_missing_cost_is_null() {
        let cost = Money::from_pico(12_345_678_901_234_567_890_123);
        let usage = Usage { output: 7, ..Usage::default() };
        let priced = Used { requests: 1, usage, cost };
        let estimated = Used { requests: 1, usage, cost: Money::ZERO };
        let sums = UsageSums {
            requests: 2,
            priced,
            estimated,
            estimated_unpriced_requests: 1,
            ..UsageSums::default()
        };
        let rows = [
            UsageRow { names: vec!["tiny".into()], sums },
            UsageRow { names: vec![String::new()], sums: UsageSums::default() },
        ];
        let bytes = parquet(&rows, &[Dimension::Model]).unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let field = |row: usize, name: &str| {
            rows[row].get_column_iter().find(|(column, _)| *column == name).unwrap().1.clone()
        };
        assert_eq!(field(0, "model"), Field::Str("tiny".into()));
        assert_eq!(field(0, "priced_output"), Field::Long(7));
        let Field::Decimal(decimal) = field(0, "priced_cost_usd") else { panic!("{:?}", rows[0]) };
        assert_eq!((decimal.data(), decimal.scale()), (&cost.pico().to_be_bytes()[..], 12));
        assert_eq!(field(0, "estimated_cost_usd"), Field::Null);
        assert_eq!(field(1, "model"), Field::Null);
    }
}
