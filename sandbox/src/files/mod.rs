//! `wasi:filesystem` for reading: files and folders below the granted directories. System calls
//! that may block are made on the threads of the run's executor.

mod folder;
mod open;
mod reading;

use std::sync::Arc;

use futures_util::FutureExt;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemCtxView},
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult,
        bindings::filesystem::types::{
            Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
            DirectoryEntryStream, ErrorCode, Filesize, Host, HostDescriptor,
            HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
        },
    },
};

use self::{
    folder::Folder,
    open::{Wanted, open},
    reading::Reading,
};
use crate::{
    limiter::{Budget, Charge},
    waiters::Waiters,
};

/// Bytes that an open folder or file counts against the run's memory, for data that is read ahead.
const OPEN_BYTES: usize = 64 * 1024;

/// The access of one run to the file system.
pub(crate) struct Files<'a> {
    pub(crate) view: WasiFilesystemCtxView<'a>,
    pub(crate) waiters: &'a Waiters,
    pub(crate) budget: &'a Arc<Budget>,
}

/// Names the type [`Files`] for the linker.
pub(crate) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

impl Files<'_> {
    /// Calls wasmtime's own implementation on a thread that may block.
    ///
    /// The call gets a table that holds nothing but the descriptor, since the run's own table
    /// cannot be sent to another thread. The context is allowed to block its thread, so its futures
    /// are ready at the first poll.
    async fn ask<T: Send + 'static>(
        &mut self,
        descriptor: &Resource<Descriptor>,
        question: impl AsyncFnOnce(&mut WasiFilesystemCtxView<'_>, Resource<Descriptor>) -> FsResult<T>
        + Send
        + 'static,
    ) -> FsResult<T> {
        let descriptor = self.view.table.get(descriptor)?.clone();
        let mut ctx = self.view.ctx.clone();
        let answer = self.waiters.call(move || {
            let mut table = ResourceTable::new();
            let descriptor = table.push(descriptor)?;
            let mut view = WasiFilesystemCtxView { ctx: &mut ctx, table: &mut table };
            let answer = question(&mut view, descriptor).now_or_never();
            answer.unwrap_or_else(|| Err(ErrorCode::WouldBlock.into()))
        });
        answer.await.map_err(FsError::trap)?
    }

    fn folder(&self, descriptor: &Resource<Descriptor>) -> FsResult<Arc<std::fs::File>> {
        match self.view.table.get(descriptor)? {
            Descriptor::Dir(folder) => Ok(Arc::clone(&folder.dir)),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    fn file(&self, descriptor: &Resource<Descriptor>) -> FsResult<Arc<std::fs::File>> {
        match self.view.table.get(descriptor)? {
            Descriptor::File(file) => Ok(Arc::clone(&file.file)),
            Descriptor::Dir(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    /// Charges the run's memory for an open file or folder.
    fn hold(&self) -> FsResult<Charge> {
        self.budget.charge(OPEN_BYTES).ok_or_else(|| ErrorCode::InsufficientMemory.into())
    }
}

fn read_only<T>() -> FsResult<T> {
    Err(ErrorCode::NotPermitted.into())
}

impl Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.view.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.view.filesystem_error_code(error)
    }
}

impl HostDescriptor for Files<'_> {
    async fn open_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let writing = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
        let changing = DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY;
        if open_flags.intersects(writing) || flags.intersects(changing) {
            return read_only();
        }
        self.folder(&folder)?;
        let wanted = Wanted { path, path_flags, open_flags, flags };
        let opened = self.ask(&folder, async move |view, folder| open(view, folder, wanted).await);
        let opened = opened.await?;
        Ok(self.view.table.push(opened)?)
    }

    async fn read(
        &mut self,
        file: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let file = self.file(&file)?;
        let read = self.waiters.call(move || reading::read_at(&file, length, offset));
        let bytes = read.await.map_err(FsError::trap)??;
        let at_end = bytes.is_empty();
        Ok((bytes, at_end))
    }

    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let reading = Reading::new(self.file(&file)?, offset, self.waiters.clone(), self.hold()?);
        let stream: DynInputStream = Box::new(reading);
        Ok(self.view.table.push(stream)?)
    }

    async fn read_directory(
        &mut self,
        folder: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let folder = self.folder(&folder)?;
        let held = self.hold()?;
        let opened = self.waiters.call(move || Folder::open(&folder, held));
        let folder = opened.await.map_err(FsError::trap)??;
        // The linker expects wasmtime's own stream type, which has read all entries already. Only
        // its number is used; `read_directory_entry` gives it its real type again.
        Ok(Resource::new_own(self.view.table.push(folder)?.rep()))
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.ask(&descriptor, async |view, descriptor| view.stat(descriptor).await).await
    }

    async fn stat_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let stat = async move |view: &mut WasiFilesystemCtxView<'_>, folder| {
            view.stat_at(folder, flags, path).await
        };
        self.ask(&folder, stat).await
    }

    async fn readlink_at(
        &mut self,
        folder: Resource<Descriptor>,
        path: String,
    ) -> FsResult<String> {
        let read = async move |view: &mut WasiFilesystemCtxView<'_>, folder| {
            view.readlink_at(folder, path).await
        };
        self.ask(&folder, read).await
    }

    async fn metadata_hash(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<MetadataHashValue> {
        self.ask(&descriptor, async |view, descriptor| view.metadata_hash(descriptor).await).await
    }

    async fn metadata_hash_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let hash = async move |view: &mut WasiFilesystemCtxView<'_>, folder| {
            view.metadata_hash_at(folder, flags, path).await
        };
        self.ask(&folder, hash).await
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        let other = self.view.table.get(&other)?.clone();
        let compare = async move |view: &mut WasiFilesystemCtxView<'_>, one| {
            let other = view.table.push(other)?;
            Ok(view.is_same_object(one, other).await)
        };
        match self.ask(&one, compare).await {
            Ok(same) => same,
            Err(error) => Err(error.downcast().map_or_else(|trap| trap, wasmtime::Error::from)),
        }
    }

    async fn get_flags(&mut self, _: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        Ok(DescriptorFlags::READ)
    }

    async fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        Ok(match self.view.table.get(&descriptor)? {
            Descriptor::File(_) => DescriptorType::RegularFile,
            Descriptor::Dir(_) => DescriptorType::Directory,
        })
    }

    /// Advice may be ignored. The two `sync` operations have nothing to do, since nothing is
    /// written.
    async fn advise(
        &mut self,
        file: Resource<Descriptor>,
        _: Filesize,
        _: Filesize,
        _: Advice,
    ) -> FsResult<()> {
        self.file(&file).map(drop)
    }

    async fn sync_data(&mut self, _: Resource<Descriptor>) -> FsResult<()> {
        Ok(())
    }

    async fn sync(&mut self, _: Resource<Descriptor>) -> FsResult<()> {
        Ok(())
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.view.table.delete(descriptor)?;
        Ok(())
    }

    async fn set_size(&mut self, _: Resource<Descriptor>, _: Filesize) -> FsResult<()> {
        read_only()
    }

    async fn set_times(
        &mut self,
        _: Resource<Descriptor>,
        _: NewTimestamp,
        _: NewTimestamp,
    ) -> FsResult<()> {
        read_only()
    }

    async fn set_times_at(
        &mut self,
        _: Resource<Descriptor>,
        _: PathFlags,
        _: String,
        _: NewTimestamp,
        _: NewTimestamp,
    ) -> FsResult<()> {
        read_only()
    }

    async fn write(
        &mut self,
        _: Resource<Descriptor>,
        _: Vec<u8>,
        _: Filesize,
    ) -> FsResult<Filesize> {
        read_only()
    }

    fn write_via_stream(
        &mut self,
        _: Resource<Descriptor>,
        _: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        read_only()
    }

    fn append_via_stream(
        &mut self,
        _: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        read_only()
    }

    async fn create_directory_at(&mut self, _: Resource<Descriptor>, _: String) -> FsResult<()> {
        read_only()
    }

    async fn remove_directory_at(&mut self, _: Resource<Descriptor>, _: String) -> FsResult<()> {
        read_only()
    }

    async fn unlink_file_at(&mut self, _: Resource<Descriptor>, _: String) -> FsResult<()> {
        read_only()
    }

    async fn link_at(
        &mut self,
        _: Resource<Descriptor>,
        _: PathFlags,
        _: String,
        _: Resource<Descriptor>,
        _: String,
    ) -> FsResult<()> {
        read_only()
    }

    async fn rename_at(
        &mut self,
        _: Resource<Descriptor>,
        _: String,
        _: Resource<Descriptor>,
        _: String,
    ) -> FsResult<()> {
        read_only()
    }

    async fn symlink_at(&mut self, _: Resource<Descriptor>, _: String, _: String) -> FsResult<()> {
        read_only()
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let stream = Resource::<Folder>::new_borrow(stream.rep());
        let folder = self.view.table.get_mut(&stream)?;
        if let Some(entries) = folder.more() {
            let read = self.waiters.call(move || entries.read()).await.map_err(FsError::trap)?;
            self.view.table.get_mut(&stream)?.put(read);
        }
        self.view.table.get_mut(&stream)?.next().transpose()
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.view.table.delete(Resource::<Folder>::new_own(stream.rep()))?;
        Ok(())
    }
}
