package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// RegisteredSkill is a skill that is known by name.
type RegisteredSkill struct {
	Name string `json:"name"`
	// Issuer, Subject and Claims tell its tokens; the latter two are patterns.
	Issuer      string            `json:"issuer"`
	Subject     string            `json:"subject,omitempty"`
	Claims      map[string]string `json:"claims,omitempty"`
	Owner       string            `json:"owner,omitempty"`
	Connections []string          `json:"connections"`
	// OnBehalfOf are groups of people for whom it may act.
	OnBehalfOf []string `json:"on_behalf_of,omitempty"`
	// Expires is when it is let in no more; absent: never.
	Expires *time.Time `json:"expires,omitempty"`
	// Digest is what its folder must be.
	Digest string `json:"digest,omitempty"`
	// Managed: it was added here, and is not in the configuration file.
	Managed bool `json:"managed"`
}

// Skills are the registered skills.
type Skills interface {
	// List lists them by name.
	List() []RegisteredSkill
	// Put adds or replaces one by its definition, in YAML as the configuration
	// file has it, and puts on record by whom. Remove takes one away.
	Put(by, name string, definition []byte) error
	Remove(by, name string) error
}

func (s *server) listSkills(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, s.Skills.List())
}

func (s *server) showSkill(w http.ResponseWriter, r *http.Request) error {
	for _, one := range s.Skills.List() {
		if one.Name == r.PathValue("name") {
			return writeJSON(w, one)
		}
	}
	return problem(http.StatusNotFound, "there is no such skill; custos skill list shows those that there are")
}

func (s *server) putSkill(w http.ResponseWriter, r *http.Request) error {
	definition, err := io.ReadAll(r.Body)
	if err != nil {
		return problem(http.StatusBadRequest, fmt.Sprintf("the skill could not be read: %v", err))
	}
	if err := s.Skills.Put(identity(caller(r.Context())), r.PathValue("name"), definition); err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	return s.showSkill(w, r)
}

func (s *server) removeSkill(w http.ResponseWriter, r *http.Request) error {
	if err := s.Skills.Remove(identity(caller(r.Context())), r.PathValue("name")); err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	return writeJSON(w, struct{}{})
}

// Skills asks for the registered skills.
func (c *Client) Skills(ctx context.Context) ([]RegisteredSkill, error) {
	var all []RegisteredSkill
	return all, c.get(ctx, "/api/v1/skills", nil, &all)
}

// Skill asks for one of them.
func (c *Client) Skill(ctx context.Context, name string) (*RegisteredSkill, error) {
	one := new(RegisteredSkill)
	return one, c.get(ctx, skillPath(name), nil, one)
}

// PutSkill adds or replaces one by its definition.
func (c *Client) PutSkill(ctx context.Context, name string, definition []byte) (*RegisteredSkill, error) {
	resp, err := c.send(ctx, http.MethodPut, skillPath(name), nil, bytes.NewReader(definition))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	one := new(RegisteredSkill)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(one); err != nil {
		return nil, fmt.Errorf("read gateway's answer: %w", err)
	}
	return one, nil
}

// RemoveSkill takes one away that was added.
func (c *Client) RemoveSkill(ctx context.Context, name string) error {
	resp, err := c.do(ctx, http.MethodDelete, skillPath(name), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func skillPath(name string) string { return "/api/v1/skills/" + url.PathEscape(name) }
