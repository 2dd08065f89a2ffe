//! What unit tests share that is no part of the library.

/// Makes a check at the end of a test, in a destructor: not in one that has failed already, where a second panic would hide
/// the first.
pub(crate) fn unless_failing(check: impl FnOnce()) {
    if !std::thread::panicking() {
        check();
    }
}
