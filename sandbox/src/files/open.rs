//! Opens files and folders, and nothing else: opening a pipe waits for somebody who writes, and
//! opening a device may do anything.

use std::{fs::File, io, os::fd::OwnedFd, sync::Arc};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
};
use wasmtime::component::Resource;
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir, File as OpenFile, WasiFilesystemCtxView},
    p2::{
        FsResult,
        bindings::filesystem::types::{
            DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
        },
    },
};

/// How often a path is followed again that changed meanwhile.
const TRIES_MAX: u32 = 4;

/// What a plugin wants to open, and how.
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) path_flags: PathFlags,
    pub(super) open_flags: OpenFlags,
    pub(super) flags: DescriptorFlags,
}

pub(super) async fn open(
    view: &mut WasiFilesystemCtxView<'_>,
    folder: Resource<Descriptor>,
    wanted: Wanted,
) -> FsResult<Descriptor> {
    let Wanted { path, path_flags, open_flags, flags } = wanted;
    let Descriptor::Dir(below) = view.table.get(&folder)? else {
        return Err(ErrorCode::NotDirectory.into());
    };
    let mut how = OFlags::empty();
    how.set(OFlags::NOFOLLOW, !path_flags.contains(PathFlags::SYMLINK_FOLLOW));
    how.set(OFlags::DIRECTORY, open_flags.contains(OpenFlags::DIRECTORY));
    match open_here(&Arc::clone(&below.dir), &path, how) {
        // Linux before 5.6, and some that guard its calls. A process that can put a pipe in the
        // place of a file at this very moment can block a thread of this executor.
        Err(Errno::NOSYS | Errno::PERM) => {
            let same_folder = Resource::new_borrow(folder.rep());
            let kind = view.stat_at(same_folder, path_flags, path.clone()).await?.type_;
            if !matches!(kind, DescriptorType::RegularFile | DescriptorType::Directory) {
                return Err(ErrorCode::NotPermitted.into());
            }
            let opened = view.open_at(folder, path_flags, path, open_flags, flags).await?;
            Ok(view.table.delete(opened)?)
        }
        // It leads out of the directory.
        Err(Errno::XDEV) => Err(ErrorCode::NotPermitted.into()),
        opened => Ok(opened.map_err(io::Error::from)??),
    }
}

/// The target of a path below a folder is looked at before it is opened, and again afterwards,
/// since it may be something else by then. Meanwhile nothing waits: an open pipe does not block.
fn open_here(
    folder: &File,
    path: &str,
    how: OFlags,
) -> rustix::io::Result<Result<Descriptor, ErrorCode>> {
    let seen = below(folder, path, how | OFlags::PATH)?;
    if let Err(refused) = kind(&seen)? {
        return Ok(Err(refused));
    }
    let opened = below(folder, path, how | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let (file, mode) = (kind(&opened)?, OpenMode::READ);
    Ok(file.map(|is_file| {
        let opened = File::from(opened);
        if is_file {
            Descriptor::File(OpenFile::new(opened, FsPerms::ReadOnly, mode, true))
        } else {
            Descriptor::Dir(Dir::new(opened, FsPerms::ReadOnly, mode, true))
        }
    }))
}

/// Opens without leaving the folder.
fn below(folder: &File, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = TRIES_MAX;
    loop {
        tries -= 1;
        match openat2(folder, path, flags, Mode::empty(), within) {
            // Something on the way was renamed.
            Err(Errno::AGAIN | Errno::INTR) if tries > 0 => {}
            opened => return opened,
        }
    }
}

/// Whether it is a file or a folder, if it is one of them.
fn kind(opened: &OwnedFd) -> rustix::io::Result<Result<bool, ErrorCode>> {
    Ok(match FileType::from_raw_mode(fstat(opened)?.st_mode) {
        FileType::RegularFile => Ok(true),
        FileType::Directory => Ok(false),
        FileType::Symlink => Err(ErrorCode::Loop),
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Err(ErrorCode::NotPermitted),
    })
}
