//! Every signed document that crosses a company's border: voucher, voucher request, audit log, telemetry, and their envelopes.
