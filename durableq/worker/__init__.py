"""One worker process: receive, handle, settle; extend leases meanwhile; drain when asked."""
