"""A light client of a served Footfall model, over gRPC or HTTP."""
