//! Places, as providers tell of them.

use serde_json::Value;

use super::MAX_NAME_BYTES;
use super::lenient::{cut, number, text};
use crate::inbox::Location;

/// Where the parts of a place are. Empty: it has no such part.
pub struct Paths {
    /// Degrees north.
    pub latitude: &'static str,
    /// Degrees east.
    pub longitude: &'static str,
    /// What it is called.
    pub name: &'static str,
    /// Its address.
    pub address: &'static str,
}

/// Reads a place; `None` for one that is none on this earth.
pub fn place(value: &Value, paths: &Paths) -> Option<Location> {
    let latitude = number(value, paths.latitude).filter(|degrees| degrees.abs() <= 90.0)?;
    let longitude = number(value, paths.longitude).filter(|degrees| degrees.abs() <= 180.0)?;
    let part = |path: &str| {
        let mut part = if path.is_empty() {
            String::new()
        } else {
            text(value, path)
        };
        cut(&mut part, MAX_NAME_BYTES);
        part
    };
    Some(Location {
        latitude,
        longitude,
        name: part(paths.name),
        address: part(paths.address),
    })
}
