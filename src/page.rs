//! Pages of a list: their size, and the tokens that lead from one to the next.

use aws_lc_rs::aead::Aad;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest;
use crate::error::{Error, InvalidRequest};
use crate::master_key::Sealer;

/// How many items a page has when the caller does not say.
const DEFAULT_SIZE: i64 = 50;
/// The most that a page can have.
const MAX_SIZE: i64 = 500;
/// Longer than any token of ours.
const MAX_TOKEN_CHARACTERS: usize = 1024;

/// The number of items in a page, 1 to 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(i64);

impl PageSize {
    /// Reads `page_size`: 0 is the default, more than the most is the most.
    ///
    /// # Errors
    /// The size is negative.
    pub fn new(size: i32) -> Result<Self, Error> {
        match i64::from(size) {
            0 => Ok(Self(DEFAULT_SIZE)),
            size if size < 0 => Err(Error::invalid("page_size", "must not be negative")),
            size => Ok(Self(size.min(MAX_SIZE))),
        }
    }

    /// How many items to show.
    pub fn items(self) -> i64 {
        self.0
    }

    /// How many items to read: one more tells whether there is a next page.
    pub fn rows(self) -> i64 {
        self.0 + 1
    }
}

/// What a page token belongs to: a call, a tenant, a filter and an order. A token does not open in
/// another list than the one that made it.
#[derive(Debug, Clone)]
pub struct List([u8; 32]);

impl List {
    /// Binds the parts that make up the list.
    pub fn new(parts: &[&[u8]]) -> Self {
        Self(digest::of_parts(parts.iter().copied()))
    }

    /// Makes the token of the page that begins after `position`.
    pub fn token<T: Serialize>(&self, sealer: &Sealer, position: &T) -> Result<String, Error> {
        let position = serde_json::to_vec(position).map_err(Error::internal)?;
        let sealed = sealer.seal(Aad::from(self.0), position)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Reads where a page begins; `None` for the first page.
    ///
    /// # Errors
    /// The token was not made by `token` for this list.
    pub fn position<T: DeserializeOwned>(
        &self,
        sealer: &Sealer,
        token: &str,
    ) -> Result<Option<T>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let refused = || Error::InvalidRequest(InvalidRequest::PageToken);
        if token.len() > MAX_TOKEN_CHARACTERS {
            return Err(refused());
        }
        let sealed = URL_SAFE_NO_PAD.decode(token).map_err(|_| refused())?;
        let position = sealer
            .open(Aad::from(self.0), &sealed)
            .ok_or_else(refused)?;
        serde_json::from_slice(&position)
            .map(Some)
            .map_err(|_| refused())
    }
}

/// Cuts the row that only tells of a next page, and makes that page's token.
pub fn cut<R, T: Serialize>(
    rows: &mut Vec<R>,
    size: PageSize,
    list: &List,
    sealer: &Sealer,
    position: impl Fn(&R) -> T,
) -> Result<String, Error> {
    let items = usize::try_from(size.items()).map_err(Error::internal)?;
    if rows.len() <= items {
        return Ok(String::new());
    }
    rows.truncate(items);
    match rows.last() {
        Some(last) => list.token(sealer, &position(last)),
        None => Ok(String::new()),
    }
}
