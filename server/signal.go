package server

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// onHangup returns a channel of SIGHUPs that lasts until ctx ends.
func onHangup(ctx context.Context) <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { signal.Stop(c) })
	return c
}
