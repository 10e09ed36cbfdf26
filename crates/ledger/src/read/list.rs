//! Lists, a page at a time.

use std::ops::Bound;

use folio_store::{Cursor, RowTypes};

use super::page::{Page, PageLimit};
use super::{LedgerView, decode_entity};
use crate::error::Result;
use crate::state_key::{Entity, Relationship};
use crate::tables::{ByResource, BySubject, Entities, Names};

/// How many look-ups a page of the relationships of one relation takes at most to pass over others.
const LOOKUPS_PER_PAGE: usize = 1024;

/// Keys and entities; a page goes on after a key.
pub type EntityPage = Page<(Vec<u8>, Entity), Vec<u8>>;

/// Which relationships to list, and so in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationshipList<'a> {
    /// All of the vault, ordered by resource, relation and subject.
    All,
    /// Those of a resource, of one relation or of all, ordered by relation and subject.
    OfResource(&'a str, Option<&'a str>),
    /// Those of a subject, of one relation or of all, ordered by relation and resource.
    OfSubject(&'a str, Option<&'a str>),
    /// Those of one relation, ordered by resource and subject. There is no index for it: a resource
    /// that has other relations costs a look-up or two, and a page ends after 1,024 that found
    /// nothing. So a page that is not the last may have few rows, or none.
    OfRelation(&'a str),
}

/// Which end of a list comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The first.
    #[default]
    Forwards,
    /// The last.
    Backwards,
}

impl LedgerView<'_> {
    /// The entities of a vault whose keys start with `prefix`, in the order of their keys. To go on,
    /// pass `next` of a page as `after`.
    pub fn entities(
        &self,
        vault: u64,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: impl Into<PageLimit>,
    ) -> Result<EntityPage> {
        let mut page = Page::new();
        if !self.is_live(vault)? {
            return Ok(page);
        }
        let mut room = limit.into().room();
        let table = self.view.table::<Entities>()?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded((vault, after)),
            _ => Bound::Included((vault, prefix)),
        };
        for row in table.range((start, Bound::Unbounded))? {
            let ((in_vault, key), row) = row?;
            if in_vault != vault || !key.starts_with(prefix) {
                break;
            }
            if !room.take(key.len() + row.len()) {
                page.next = page.items.last().map(|(key, _)| Vec::clone(key));
                break;
            }
            let entity = decode_entity(vault, &key, &row)?;
            page.items.push((key, entity));
        }
        Ok(page)
    }

    /// Whether a relationship is there.
    pub fn relationship_exists(&self, vault: u64, relationship: &Relationship) -> Result<bool> {
        if !self.is_live(vault)? {
            return Ok(false);
        }
        let Relationship {
            resource,
            relation,
            subject,
        } = relationship;
        let table = self.view.table::<ByResource>()?;
        Ok(table.contains_key((vault, &resource[..], &relation[..], &subject[..]))?)
    }

    /// Relationships of a vault. To go on, pass `next` of a page as `after`: it is a place in the
    /// list, and not always a relationship.
    ///
    /// A page costs what is in it, however long the list is, but for what
    /// [`RelationshipList::OfRelation`] says.
    pub fn relationships(
        &self,
        vault: u64,
        list: RelationshipList<'_>,
        order: Order,
        after: Option<&Relationship>,
        limit: impl Into<PageLimit>,
    ) -> Result<Page<Relationship, Relationship>> {
        if !self.is_live(vault)? {
            return Ok(Page::new());
        }
        let (by_resource, by_subject) = (
            self.view.table::<ByResource>()?,
            self.view.table::<BySubject>()?,
        );
        let walk = Walk {
            vault,
            order,
            limit: limit.into(),
        };
        match list {
            RelationshipList::All => walk.within(by_resource.cursor(), None, None, after),
            RelationshipList::OfResource(name, relation) => {
                walk.within(by_resource.cursor(), Some(name), relation, after)
            }
            RelationshipList::OfSubject(name, relation) => {
                let turned = after.cloned().map(turn);
                let page =
                    walk.within(by_subject.cursor(), Some(name), relation, turned.as_ref())?;
                Ok(Page {
                    items: page.items.into_iter().map(turn).collect(),
                    next: page.next.map(turn),
                })
            }
            RelationshipList::OfRelation(relation) => {
                walk.of_relation(by_resource.cursor(), relation, after)
            }
        }
    }
}

/// Exchanges resource and subject.
fn turn(relationship: Relationship) -> Relationship {
    Relationship {
        resource: relationship.subject,
        subject: relationship.resource,
        ..relationship
    }
}

/// The text that comes right after `name`: names have no control characters.
fn after_name(name: &str) -> String {
    format!("{name}\0")
}

/// A walk over relationships, by their three names in the order of an index. The names are called as
/// those of the index by resource.
struct Walk {
    vault: u64,
    order: Order,
    limit: PageLimit,
}

impl Walk {
    /// The next row of the vault.
    fn step<T: RowTypes<Key = Names, Value = ()>>(
        &self,
        cursor: &mut Cursor<'_, T>,
    ) -> Result<Option<Relationship>> {
        let row = match self.order {
            Order::Forwards => cursor.next()?,
            Order::Backwards => cursor.prev()?,
        };
        Ok(row.and_then(|((vault, resource, relation, subject), ())| {
            (vault == self.vault).then_some(Relationship {
                resource,
                relation,
                subject,
            })
        }))
    }

    /// Goes behind a place, as the order has it.
    fn seek<T: RowTypes<Key = Names, Value = ()>>(
        &self,
        cursor: &mut Cursor<'_, T>,
        (resource, relation, subject): (&str, &str, &str),
    ) -> Result<()> {
        let key = (self.vault, resource, relation, subject);
        match self.order {
            Order::Forwards => cursor.seek_after(key)?,
            Order::Backwards => cursor.seek(key)?,
        }
        Ok(())
    }

    /// Goes before everything that has these names.
    fn seek_first<T: RowTypes<Key = Names, Value = ()>>(
        &self,
        cursor: &mut Cursor<'_, T>,
        resource: Option<&str>,
        relation: Option<&str>,
    ) -> Result<()> {
        let (resource, relation) = (resource.unwrap_or(""), relation.unwrap_or(""));
        match (self.order, resource, relation) {
            (Order::Forwards, ..) => cursor.seek((self.vault, resource, relation, ""))?,
            (Order::Backwards, "", _) => cursor.seek((self.vault.saturating_add(1), "", "", ""))?,
            (Order::Backwards, _, "") => {
                cursor.seek((self.vault, &after_name(resource)[..], "", ""))?;
            }
            (Order::Backwards, ..) => {
                cursor.seek((self.vault, resource, &after_name(relation)[..], ""))?;
            }
        }
        Ok(())
    }

    /// Everything that has the names that are given.
    fn within<T: RowTypes<Key = Names, Value = ()>>(
        &self,
        mut cursor: Cursor<'_, T>,
        resource: Option<&str>,
        relation: Option<&str>,
        after: Option<&Relationship>,
    ) -> Result<Page<Relationship, Relationship>> {
        match after {
            None => self.seek_first(&mut cursor, resource, relation)?,
            Some(after) => {
                let resource = resource.unwrap_or(&after.resource);
                let relation = relation.unwrap_or(&after.relation);
                self.seek(&mut cursor, (resource, relation, &after.subject))?;
            }
        }
        let mut page = Page::new();
        let mut room = self.limit.room();
        while let Some(row) = self.step(&mut cursor)? {
            if resource.is_some_and(|only| only != row.resource)
                || relation.is_some_and(|only| only != row.relation)
            {
                break;
            }
            if !room.take(length(&row)) {
                page.next = page.items.last().cloned();
                break;
            }
            page.items.push(row);
        }
        Ok(page)
    }

    /// Everything of one relation: from resource to resource.
    fn of_relation<T: RowTypes<Key = Names, Value = ()>>(
        &self,
        mut cursor: Cursor<'_, T>,
        relation: &str,
        after: Option<&Relationship>,
    ) -> Result<Page<Relationship, Relationship>> {
        match after {
            None => self.seek_first(&mut cursor, None, None)?,
            Some(Relationship {
                resource,
                relation,
                subject,
            }) => self.seek(&mut cursor, (resource, relation, subject))?,
        }
        let mut page = Page::new();
        let mut room = self.limit.room();
        let (mut lookups, beyond) = (0, after_name(relation));
        while let Some(row) = self.step(&mut cursor)? {
            if row.relation == relation {
                if !room.take(length(&row)) {
                    page.next = page.items.last().cloned();
                    break;
                }
                page.items.push(row);
                continue;
            }
            // Which side of the relation the row lies on says whether the resource may have it yet.
            let is_before = &row.relation[..] < relation;
            let place = if is_before { relation } else { &beyond };
            let is_passed = is_before == (self.order == Order::Backwards);
            if lookups == LOOKUPS_PER_PAGE {
                page.next = Some(Relationship::new(row.resource, place, ""));
                break;
            }
            lookups += 1;
            match (self.order, is_passed) {
                (_, false) => self.seek(&mut cursor, (&row.resource, place, ""))?,
                (Order::Forwards, true) => {
                    self.seek(&mut cursor, (&after_name(&row.resource), "", ""))?;
                }
                (Order::Backwards, true) => self.seek(&mut cursor, (&row.resource, "", ""))?,
            }
        }
        Ok(page)
    }
}

fn length(row: &Relationship) -> usize {
    row.resource.len() + row.relation.len() + row.subject.len()
}
