//! Bytes of one object copied to another, holes left out.
//!
//! The bytes may change meanwhile. A page is read again until it comes out the same twice, so that
//! what stood still for a moment is copied as of one moment; of a page that never does, the last
//! reading counts. That the kernel reads aligned words as a whole is not laid down anywhere, though
//! on the processors of today it does: a word that changed during the last of so many readings is
//! judged by whoever relies on it, as any word of a heap.

use std::ops::Range;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::descriptor::Hold;
use super::object::Object;
use super::refused;
use crate::Result;
use crate::units::PAGE_BYTES;

/// How much is read at once; a multiple of a page.
const CHUNK_BYTES: u64 = 256 << 10;
/// How often a page is read that changes each time.
const READINGS: u32 = 16;

impl<H: Hold> Object<H> {
    /// Copies the bytes of the range to the same place of another object, which has storage there
    /// and zeros. `mend` is given what was read and where, and may change it.
    pub(crate) fn copy_to<T: Hold>(
        &self,
        target: &Object<T>,
        range: Range<u64>,
        mut mend: impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let [mut buffer, mut again] = [(); 2].map(|()| vec![0; CHUNK_BYTES as usize]);
        let mut left = range;
        let seek = |to: SeekFrom| match self.with(|fd| rustix::fs::seek(fd, to)) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno),
        };
        while let Some(data) = next_data(&left, seek)? {
            for start in data.clone().step_by(CHUNK_BYTES as usize) {
                let bytes = CHUNK_BYTES.min(data.end - start) as usize;
                let chunk = &mut buffer[..bytes];
                let found = self.read_at(chunk, start)?;
                let chunk = &mut chunk[..found];
                let read_again = |bytes: &mut [u8], at| self.read_at(bytes, at).map(drop);
                read_until_still(chunk, start, &mut again[..found], read_again)?;
                mend(start, chunk)?;
                target.write_data_at(chunk, start)?;
            }
            left.start = data.end;
        }
        Ok(())
    }

    /// Writes all pages but those of zeros.
    fn write_data_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let page_bytes = PAGE_BYTES as usize;
        let pages = (offset..).step_by(page_bytes).zip(bytes.chunks(page_bytes));
        for (at, page) in pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0)) {
            let mut done = 0;
            while done < page.len() {
                let left = &page[done..];
                match self.with(|fd| rustix::io::pwrite(fd, left, at + done as u64)) {
                    Ok(count) => done += count,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(refused("writing the copy")(errno)),
                }
            }
        }
        Ok(())
    }
}

/// The first bytes in the range that have storage with something in it, from the start of their
/// page on, if any have; `seek` finds the next byte of data, or hole.
fn next_data(
    range: &Range<u64>,
    seek: impl Fn(SeekFrom) -> Result<Option<u64>, Errno>,
) -> Result<Option<Range<u64>>> {
    let data = match seek(SeekFrom::Data(range.start)) {
        Ok(Some(data)) if data < range.end => data,
        Ok(_) => return Ok(None),
        // This file system has no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(range.clone())),
        Err(errno) => return Err(refused("looking for data (lseek)")(errno)),
    };
    // Some file systems name the first byte itself.
    let start = (data - data % PAGE_BYTES).max(range.start);
    let hole = seek(SeekFrom::Hole(data)).map_err(refused("looking for holes (lseek)"))?;
    // Taken away meanwhile: then the page is read all the same, to get on.
    let end = hole.unwrap_or(range.end).max(start + PAGE_BYTES).min(range.end);
    Ok(Some(start..end))
}

/// Reads once more what was read, and those pages again that have changed, so often.
fn read_until_still(
    chunk: &mut [u8],
    start: u64,
    again: &mut [u8],
    mut read: impl FnMut(&mut [u8], u64) -> Result<()>,
) -> Result<()> {
    let page_bytes = PAGE_BYTES as usize;
    read(again, start)?;
    let pages = chunk.chunks_mut(page_bytes).zip(again.chunks_mut(page_bytes));
    for (at, (page, again)) in (start..).step_by(page_bytes).zip(pages) {
        let mut readings = 1;
        while page != again {
            page.copy_from_slice(again);
            if readings == READINGS {
                break;
            }
            read(again, at)?;
            readings += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wherever data begins and ends: all of it is found, from the starts of its pages, to the end.
    #[test]
    fn data_is_found_from_the_start_of_its_page() {
        const END: u64 = 10 * PAGE_BYTES;
        let data = [5000..9000, 20_480..24_576, 30_000..END];
        let seek = |to: SeekFrom| {
            Ok(match to {
                SeekFrom::Data(at) => {
                    data.iter().find(|data| at < data.end).map(|data| data.start.max(at))
                }
                SeekFrom::Hole(at) => {
                    data.iter().find(|data| data.contains(&at)).map_or(Some(at), |it| Some(it.end))
                }
                _ => unreachable!(),
            })
        };
        let (mut found, mut left) = (vec![], 0..END);
        while let Some(next) = next_data(&left, seek).unwrap() {
            left.start = next.end;
            found.push(next);
        }
        assert_eq!(found, [4096..9000, 20_480..24_576, 28_672..END]);
        // What goes between two looks does not keep the copier from going on.
        let gone = |to: SeekFrom| match to {
            SeekFrom::Data(at) | SeekFrom::Hole(at) => Ok(Some(at)),
            _ => unreachable!(),
        };
        assert_eq!(next_data(&(4096..END), gone).unwrap(), Some(4096..8192));
        let full = |_| Err(Errno::INVAL);
        assert_eq!(next_data(&(4096..END), full).unwrap(), Some(4096..END));
    }

    /// Three pages, of which the second changes a few times and the third each time.
    #[test]
    fn a_page_counts_when_it_was_read_twice_the_same() {
        const PAGE: usize = PAGE_BYTES as usize;
        let now = std::cell::Cell::new(0_u8);
        let of_page = |number: usize| match number {
            0 => 7,
            1 => now.get().min(5),
            _ => now.get(),
        };
        let mut reads = vec![];
        let mut read = |bytes: &mut [u8], at: u64| {
            now.set(now.get() + 1);
            reads.push((at, bytes.len()));
            for (number, page) in (at as usize / PAGE..).zip(bytes.chunks_mut(PAGE)) {
                page.fill(of_page(number));
            }
            Ok(())
        };
        let [mut chunk, mut again] = [(); 2].map(|()| vec![0; 3 * PAGE]);
        read(&mut chunk, 0).unwrap();
        read_until_still(&mut chunk, 0, &mut again, &mut read).unwrap();
        let found: Vec<_> = chunk.chunks(PAGE).map(|page| page[PAGE - 1]).collect();
        assert_eq!(found[..2], [7, 5]);
        assert_eq!(reads[..2], [(0, 3 * PAGE), (0, 3 * PAGE)]);
        let of_third = reads.iter().filter(|(at, _)| *at == 2 * PAGE_BYTES).count();
        assert_eq!(of_third as u32, READINGS - 1, "no end otherwise");
    }
}
