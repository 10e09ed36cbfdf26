//! What the fuzz targets share.

/// One thread for what nodes and connections do by themselves, beside the one that drives them.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}
