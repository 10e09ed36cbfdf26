//! Lists, page by page.

use std::collections::VecDeque;

use folio_api::{Page, ReadLevel};
use futures_util::stream::{Stream, unfold};
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::Result;
use crate::path::Path;

/// A list that is fetched as it is taken, a page at a time. Each page is of a moment of its own.
#[derive(Debug)]
pub struct Pages<T> {
    client: Client,
    path: Path,
    read: ReadLevel,
    /// What was fetched and not yet taken.
    rows: VecDeque<T>,
    /// Where the next page begins.
    after: Option<String>,
    over: bool,
    limit: Option<usize>,
}

impl<T: DeserializeOwned> Pages<T> {
    pub(crate) fn new(client: Client, path: Path, read: ReadLevel) -> Self {
        Pages {
            client,
            path,
            read,
            rows: VecDeque::new(),
            after: None,
            over: false,
            limit: None,
        }
    }

    /// Pages of so many rows at most, up to [`MAX_LIMIT`](folio_api::MAX_LIMIT).
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = Some(rows);
        self
    }

    /// The next row, or `None` at the end. After an error the same row can be asked for again.
    pub async fn next(&mut self) -> Result<Option<T>> {
        while self.rows.is_empty() && !self.over {
            self.rows = self.next_page().await?.into();
        }
        Ok(self.rows.pop_front())
    }

    /// The next page; empty at the end.
    pub async fn next_page(&mut self) -> Result<Vec<T>> {
        if !self.rows.is_empty() || self.over {
            return Ok(self.rows.drain(..).collect());
        }
        let mut path = self.path.clone();
        if let Some(after) = &self.after {
            path = path.query("after", after);
        }
        if let Some(limit) = self.limit {
            path = path.query("limit", limit);
        }
        let page: Page<T> = self.client.read(path, self.read).await?;
        self.over = page.next.is_none();
        self.after = page.next;
        Ok(page.items)
    }

    /// All rows that are left, in memory.
    pub async fn all(mut self) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        while !self.over || !self.rows.is_empty() {
            rows.extend(self.next_page().await?);
        }
        Ok(rows)
    }

    /// The rows as a stream, which ends with the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<T>> {
        unfold(Some(self), async |pages| {
            let mut pages = pages?;
            match pages.next().await {
                Ok(None) => None,
                Ok(Some(row)) => Some((Ok(row), Some(pages))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}
