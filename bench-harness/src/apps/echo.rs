//! App `echo`: what was sent comes back, until the client closes its sending side.

use std::io::{self, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const CHUNK: usize = 16 * 1024;

/// Echoes with blocking calls. A read that times out goes on as long as `go_on` says so.
///
/// # Errors
/// That of the stream.
pub fn blocking(stream: &mut (impl Read + Write), go_on: impl Fn() -> bool) -> io::Result<()> {
    let mut bytes = [0; CHUNK];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => stream.write_all(&bytes[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && go_on() => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Echoes on tokio until the client is done or `leave` ends.
///
/// # Errors
/// That of the stream.
pub async fn on_tokio(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    leave: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    let mut leave = std::pin::pin!(leave);
    loop {
        let count = tokio::select! {
            // What has come is echoed, also by a worker that has to leave.
            biased;
            count = stream.read(&mut bytes) => count?,
            () = &mut leave => return Ok(()),
        };
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..count]).await?;
    }
}
