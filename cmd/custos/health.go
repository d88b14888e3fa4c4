package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newHealthCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "health", Short: "Ask whether a gateway is ready to serve; no token is needed", Args: cobra.NoArgs,
		Long: "Ask whether a gateway is ready to serve: for the health check of a container, which has no other program.\n" +
			"Exit status 0 says that it is.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := g.newHTTPClient()
			if err != nil {
				return err
			}
			h.Timeout = 10 * time.Second
			r, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, strings.TrimSuffix(g.url, "/")+"/readyz", nil)
			if err != nil {
				return fmt.Errorf("ask gateway: %w", err)
			}
			resp, err := h.Do(r)
			if err != nil {
				return explain(fmt.Errorf("ask gateway: %w", err))
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // its log says why, the answer does not
			if resp.StatusCode != http.StatusOK {
				return errors.New("the gateway is not ready; its log says why")
			}
			if g.json {
				return g.printJSON(map[string]bool{"ready": true})
			}
			_, err = fmt.Fprintln(g.stdout, "ready")
			return err
		}}
}
