FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
# The folders of a cache mount are not part of the image, hence the copy.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin communication-service \
    && cp target/release/communication-service /communication-service \
    && mkdir /data

# glibc, libgcc and the root certificates; no shell.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /communication-service /usr/local/bin/communication-service
COPY --from=build --chown=10001:10001 /data /var/lib/communication
USER 10001:10001
ENV COMM_HOST=0.0.0.0 COMM_DATA_DIR=/var/lib/communication
EXPOSE 8010 50051
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["communication-service", "healthcheck"]
ENTRYPOINT ["communication-service"]
CMD ["serve"]
