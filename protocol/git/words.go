package git

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// Statement is what a push or fetch in words would do, to an upstream of which
// nothing is known but that its default branch is main: for trying out rules.
//
//	upload-pack REPOSITORY [want REF]
//	receive-pack REPOSITORY REF create|forward|force|delete [WORD...]
//
// In place of the third word, old= and new= with ids, of which one may be all
// zeros, and ff=true or ff=false say the same. A further word is file=PATH,
// author=ADDRESS, or +EFFECT for what only the objects tell, such as +secret.added.
func Statement(text string) (*custos.Operation, error) {
	words := strings.Fields(text)
	if len(words) < 2 {
		return nil, errors.New("read statement: write receive-pack REPOSITORY REF create, or upload-pack REPOSITORY")
	}
	repository := strings.TrimSuffix(words[1], ".git")
	switch words[0] {
	case serviceFetch, "upload-pack", "fetch":
		o := (&fetchRequest{command: "fetch", words: words[2:]}).operation(repository)
		if last := words[len(words)-1]; len(words) > 2 && strings.HasPrefix(last, "refs/") {
			o.Facts.Attributes["ref"] = []string{last}
		}
		return o, nil
	case servicePush, "receive-pack", "push":
		if len(words) < 4 {
			return nil, errors.New("read statement: write receive-pack REPOSITORY REF, and then create, forward, force or delete")
		}
		return statedPush(text, repository, words[2], words[3:])
	}
	return nil, fmt.Errorf("read statement: %q is neither receive-pack nor upload-pack", clip(words[0], 80))
}

func statedPush(text, repository, ref string, words []string) (*custos.Operation, error) {
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	facts := &custos.Facts{Attributes: map[string][]string{"repository": {repository}, "ref": {ref}}}
	does := func(effect string) {
		if !slices.Contains(facts.Effects, effect) {
			facts.Effects = append(facts.Effects, effect)
		}
	}
	how := ""
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		none := value != "" && strings.Trim(value, "0") == ""
		switch {
		case key == "old" && none:
			how = "create"
		case key == "new" && none:
			how = "delete"
		case key == "ff" && value == "true":
			how = "forward"
		case key == "ff" && value == "false", key == "old" && how == "" && strings.HasPrefix(ref, "refs/tags/"):
			how = "force"
		case slices.Contains([]string{"create", "forward", "force", "delete"}, w):
			how = w
		case key == "file":
			facts.Attributes["file"] = append(facts.Attributes["file"], value)
			if runsByItself(value) {
				does("workflow")
			}
		case key == "author":
			facts.Attributes["author"] = append(facts.Attributes["author"], value)
		case strings.HasPrefix(w, "+"):
			does(w[1:])
		}
	}
	if how == "" {
		return nil, errors.New("read statement: say whether it is to create, forward, force or delete the ref")
	}
	does("ref." + how)
	if protectedRef(ref, "refs/heads/main") {
		if does("ref.protected"); how == "delete" {
			does("destroy")
		}
	}
	names := newRefNames()
	names.add("refs/heads/main")
	if !ordinary(ref) || how == "create" && names.reserved(ref) != "" {
		does("ref.reserved")
	}
	slices.Sort(facts.Effects)
	return &custos.Operation{Class: classPush, Text: text, Verbs: []string{"PUSH"}, Objects: []string{repository + " " + ref}, Writes: true, Facts: facts}, nil
}
