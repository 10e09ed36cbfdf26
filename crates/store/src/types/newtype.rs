//! Types of the user's own that are stored as another type.

use super::{BorrowedValue, DecodeError, Key, Value};

/// A type that is stored as the one inside it: a number that is a customer, a text that is a mail address.
///
/// With it the type is a [`Value`], and a [`Key`] if the type inside is one. As a key it sorts as the type inside does.
///
/// ```
/// use folio_store::{Database, Newtype, Table};
///
/// #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
/// struct Customer(u64);
///
/// impl Newtype for Customer {
///     const NAME: &'static str = "Customer";
///     type Inner = u64;
///     fn inner(&self) -> u64 {
///         self.0
///     }
///     fn from_inner(inner: u64) -> Option<Self> {
///         Some(Self(inner))
///     }
/// }
///
/// struct Names;
/// impl Table for Names {
///     const NAME: &'static str = "names";
///     type Key = Customer; // a bare number does not compile
///     type Value = &'static str;
/// }
///
/// # fn main() -> folio_store::Result<()> {
/// let db = Database::in_memory()?;
/// let txn = db.begin_write()?;
/// let mut names = txn.table::<Names>()?;
/// names.insert(Customer(7), "Ada")?;
/// assert_eq!(names.first()?, Some((Customer(7), "Ada".to_owned())));
/// # Ok(())
/// # }
/// ```
pub trait Newtype: Sized + 'static {
    /// What the type is called in the file, together with the type inside. A file whose table was written under another
    /// name is refused.
    const NAME: &'static str;

    /// The type that is stored.
    type Inner: Value;

    /// What is inside.
    fn inner(&self) -> <Self::Inner as Value>::View<'_>;

    /// The type around what was read; `None` if it does not allow for that, which makes reading the row an error. Writing
    /// does not ask: what the program has made of the type is stored as it is.
    fn from_inner(inner: <Self::Inner as Value>::Owned) -> Option<Self>;
}

fn wrap<N: Newtype>(inner: <N::Inner as Value>::Owned) -> Result<N, DecodeError> {
    N::from_inner(inner).ok_or_else(DecodeError::invalid_value::<N>)
}

impl<N: Newtype> Value for N {
    const FIXED_WIDTH: Option<usize> = N::Inner::FIXED_WIDTH;
    type View<'a> = N;
    type Owned = N;

    fn type_name() -> String {
        format!("{}({})", N::NAME, N::Inner::type_name())
    }

    fn encode(view: &N, out: &mut Vec<u8>) {
        N::Inner::encode(&view.inner(), out);
    }

    fn decode(bytes: &[u8]) -> Result<N, DecodeError> {
        wrap(N::Inner::decode(bytes)?)
    }
}

impl<N: Newtype> BorrowedValue for N {
    fn view(bytes: &[u8]) -> Result<N, DecodeError> {
        N::decode(bytes)
    }
}

impl<N: Newtype> Key for N
where
    N::Inner: Key,
{
    fn encode_part(view: &N, out: &mut Vec<u8>) {
        N::Inner::encode_part(&view.inner(), out);
    }

    fn decode_part(input: &mut &[u8]) -> Result<N, DecodeError> {
        let mut rest = *input;
        let owned = wrap(N::Inner::decode_part(&mut rest)?)?;
        *input = rest;
        Ok(owned)
    }
}
