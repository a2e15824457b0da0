bitflags::bitflags! {
    /// The rights of a handle.
    ///
    /// On a file, READ and WRITE allow the two directions. SYNC allows SYNC requests and DURABLE
    /// writes, which make a storage device flush. On a buffer, READ lets a WRITE request take bytes
    /// from it, and WRITE lets a READ request put bytes into it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Rights: u8 {
        /// Allows reading.
        const READ = 1;
        /// Allows writing.
        const WRITE = 2;
        /// Allows SYNC requests and DURABLE writes. For files only.
        const SYNC = 4;
    }
}
