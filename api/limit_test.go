package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestLimitedRefusesOneTooMany(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	h := limited(2, func(http.ResponseWriter, *http.Request) error {
		in <- struct{}{}
		<-out
		return nil
	})
	ask := func() error { return h(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) }
	done := make(chan error, 3)
	for range 2 {
		go func() { done <- ask() }()
		<-in
	}
	if p, ok := errors.AsType[*Problem](ask()); !ok || p.Status != http.StatusTooManyRequests {
		t.Errorf("the third of two got %v", p)
	}
	out <- struct{}{}
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() { done <- ask() }()
	<-in // there is room again
	close(out)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
