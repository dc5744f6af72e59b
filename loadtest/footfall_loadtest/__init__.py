"""Load tests of a served Footfall model: the workload, and the service-level gate."""
