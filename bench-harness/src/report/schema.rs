//! What is in a saved result, as a JSON Schema: made from the types and their documentation, so it
//! names every field there is.

use schemars::schema_for;

use super::{Report, SCHEMA};

/// The schema of a saved result, as it stands in `bench-harness/schema.json`.
///
/// # Errors
/// It cannot be JSON; no schema is so.
pub fn json() -> anyhow::Result<String> {
    let mut schema = schema_for!(Report);
    schema.insert("$id".to_owned(), SCHEMA.into());
    schema.insert("title".to_owned(), "A result saved by `forkherd-bench compare --json`".into());
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}
