//! Reads the entries of a folder in portions: all entries of a large folder would take much of the
//! host's memory.

use std::{collections::VecDeque, fs::File, io};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use wasmtime_wasi::p2::{
    FsResult,
    bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode},
};

use crate::limiter::Charge;

/// Entries that are read at once.
const ENTRIES: usize = 100;

/// A folder whose entries are being read.
pub(super) struct Folder {
    /// The entries not read so far. `None` at the end, and while a portion is read.
    entries: Option<Entries>,
    next: VecDeque<FsResult<DirectoryEntry>>,
    _held: Charge,
}

/// The remaining entries of a folder.
pub(super) struct Entries(Dir);

/// A portion of entries, and what is left after it.
pub(super) struct Read {
    next: VecDeque<FsResult<DirectoryEntry>>,
    left: Option<Entries>,
}

impl Folder {
    pub(super) fn open(folder: &File, held: Charge) -> io::Result<Self> {
        // Open the folder anew: the position in it would otherwise be shared with all users of the
        // descriptor.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let entries = Some(Entries(Dir::new(openat(folder, ".", flags, Mode::empty())?)?));
        Ok(Self { entries, next: VecDeque::new(), _held: held })
    }

    /// The entries of which a portion has to be read before the next entry is known.
    pub(super) fn more(&mut self) -> Option<Entries> {
        self.entries.take_if(|_| self.next.is_empty())
    }

    pub(super) fn put(&mut self, read: Read) {
        self.next = read.next;
        self.entries = read.left;
    }

    pub(super) fn next(&mut self) -> Option<FsResult<DirectoryEntry>> {
        self.next.pop_front()
    }
}

impl Entries {
    pub(super) fn read(mut self) -> Read {
        let mut next = VecDeque::with_capacity(ENTRIES);
        while next.len() < ENTRIES {
            match self.0.read() {
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(Ok(entry)) => next.push_back(self.entry(&entry)),
                Some(Err(error)) => next.push_back(Err(io::Error::from(error).into())),
                None => return Read { next, left: None },
            }
        }
        Read { next, left: Some(self) }
    }

    fn entry(&self, entry: &rustix::fs::DirEntry) -> FsResult<DirectoryEntry> {
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let about = statat(
                self.0.fd().map_err(io::Error::from)?,
                entry.file_name(),
                AtFlags::SYMLINK_NOFOLLOW,
            );
            let about = about.map_err(io::Error::from)?;
            kind = FileType::from_raw_mode(about.st_mode);
        }
        let name =
            entry.file_name().to_str().map_err(|_malformed| ErrorCode::IllegalByteSequence)?;
        Ok(DirectoryEntry { type_: descriptor_type(kind), name: name.to_owned() })
    }
}

fn descriptor_type(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Unknown => DescriptorType::Unknown,
    }
}
