bitflags::bitflags! {
    /// What a handle may be used for.
    ///
    /// On a file, READ and WRITE are the two directions; SYNC allows SYNC requests and DURABLE
    /// writes, which make a storage device flush. On a buffer, READ lets a WRITE request take
    /// bytes from it, and WRITE lets a READ request put bytes into it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Rights: u8 {
        /// May be read from.
        const READ = 1;
        /// May be written to.
        const WRITE = 2;
        /// May be made durable. Files only.
        const SYNC = 4;
    }
}
