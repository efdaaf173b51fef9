//! Opens files and folders, and refuses everything else: opening a pipe waits until another process
//! opens its other end, and opening a device may have any effect.

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

/// How often a path is tried again if it was changed while it was followed.
const TRIES_MAX: u32 = 4;

/// The arguments with which a plugin opens a file or folder.
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
        // `openat2` is missing: Linux is older than 5.6, or a filter of system calls refuses it.
        // Then the kind is checked before opening. A process that replaces the file by a pipe
        // between the two can block one thread of this executor.
        Err(Errno::NOSYS | Errno::PERM) => {
            let same_folder = Resource::new_borrow(folder.rep());
            let kind = view.stat_at(same_folder, path_flags, path.clone()).await?.type_;
            if !matches!(kind, DescriptorType::RegularFile | DescriptorType::Directory) {
                return Err(ErrorCode::NotPermitted.into());
            }
            let opened = view.open_at(folder, path_flags, path, open_flags, flags).await?;
            Ok(view.table.delete(opened)?)
        }
        // The path leads out of the folder.
        Err(Errno::XDEV) => Err(ErrorCode::NotPermitted.into()),
        opened => Ok(opened.map_err(io::Error::from)??),
    }
}

/// Opens a path below a folder. Its kind is checked before it is opened, and again afterwards,
/// because it may have been replaced in between. Even then nothing blocks, since `NONBLOCK` makes
/// the open of a pipe return at once.
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

/// Opens a path without leaving the folder.
fn below(folder: &File, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = TRIES_MAX;
    loop {
        tries -= 1;
        match openat2(folder, path, flags, Mode::empty(), within) {
            // A part of the path was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) if tries > 0 => {}
            opened => return opened,
        }
    }
}

/// `true` for a file, `false` for a folder, and an error for all else.
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
