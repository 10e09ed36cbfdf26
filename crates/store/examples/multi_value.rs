//! Several values a key: an index.

use folio_store::{Database, MultiTable, Table};

struct Articles;
impl Table for Articles {
    const NAME: &'static str = "articles";
    type Key = u64;
    type Value = &'static str;
}

/// Articles by the words in their titles.
struct Words;
impl MultiTable for Words {
    const NAME: &'static str = "words";
    type Key = &'static str;
    type Value = u64;
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let db = Database::in_memory()?;
    let txn = db.begin_write()?;
    {
        let mut articles = txn.table::<Articles>()?;
        let mut words = txn.multi_table::<Words>()?;
        let titles = ["the old sea", "the sea and the wind", "old wind"];
        for (id, title) in (1..).zip(titles) {
            articles.insert(id, title)?;
            for word in title.split(' ') {
                words.insert(word, id)?;
            }
        }
    }
    txn.commit()?; // rows and index become visible together

    let view = db.begin_read()?;
    let words = view.multi_table::<Words>()?;
    for word in words.keys()? {
        let word = word?;
        let ids: Vec<u64> = words.get(word.as_str())?.collect::<Result<_, _>>()?;
        println!("{word}: {ids:?}");
    }
    let with_sea: Vec<u64> = words.get("sea")?.collect::<Result<_, _>>()?;
    assert_eq!(with_sea, [1, 2]);
    assert!(words.contains("old", 3)?);
    Ok(())
}
