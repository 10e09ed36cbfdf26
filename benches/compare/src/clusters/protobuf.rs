//! As much of the protobuf encoding as a few messages of etcd need.

const NUMBER: u64 = 0;
const BYTES: u64 = 2;

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// A field of bytes.
pub fn bytes_field(field: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, field << 3 | BYTES);
    put_number(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

enum Field<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

/// The first field of this number; nothing when a field of a kind that these messages lack comes before it.
fn find(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    loop {
        let key = take_number(&mut message)?;
        let field = match key & 7 {
            NUMBER => Field::Number(take_number(&mut message)?),
            BYTES => {
                let length = usize::try_from(take_number(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(field);
        }
    }
}

pub fn field_bytes(message: &[u8], wanted: u64) -> Option<&[u8]> {
    match find(message, wanted)? {
        Field::Bytes(bytes) => Some(bytes),
        Field::Number(_) => None,
    }
}

pub fn field_number(message: &[u8], wanted: u64) -> Option<u64> {
    match find(message, wanted)? {
        Field::Number(number) => Some(number),
        Field::Bytes(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_and_cut_off_ones_do_not() {
        let message = [bytes_field(1, &[7; 300]), vec![0x20, 0x96, 0x01]].concat();
        assert_eq!(field_bytes(&message, 1), Some(&[7; 300][..]));
        assert_eq!(field_number(&message, 4), Some(150));
        assert_eq!(field_number(&message, 5), None);
        assert_eq!(field_bytes(&message[..200], 1), None);
    }
}
