//! The MASA: register of devices and owners, vouchers online and in batches, audit log.
