# syntax=docker/dockerfile:1
# The gateway alone: one static binary on an empty root file system, which may
# be mounted read-only. What it keeps lies in /data, and it runs as 65532.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags="-s -w" -o /out/custos ./cmd/custos \
 && mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/custos /custos
COPY --from=build --chown=65532:65532 /out/data /data
ENV HOME=/data
USER 65532:65532
VOLUME /data
EXPOSE 8443 15432
ENTRYPOINT ["/custos"]
CMD ["serve", "--config", "/etc/custos/custos.yaml"]
